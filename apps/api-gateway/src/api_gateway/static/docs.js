// Without the validator, which is somebody else's server.
SwaggerUIBundle({ dom_id: "#swagger-ui", url: "/openapi.json", deepLinking: true, validatorUrl: null });
