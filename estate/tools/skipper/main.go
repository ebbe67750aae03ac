// Skipper as upstream builds it, behind handlers that leave the gateway nothing of a client's to believe.
package main

import (
	"log"
	"net"
	"net/http"

	"github.com/zalando/skipper"
	"github.com/zalando/skipper/config"
)

func main() {
	settings := config.NewConfig()
	if err := settings.Parse(); err != nil {
		log.Fatalf("error: %v", err)
	}
	options := settings.ToOptions()
	_, port, err := net.SplitHostPort(options.Address)
	if err != nil {
		log.Fatalf("error: -address: %v", err)
	}
	// In upstream's own handlers is what its flags ask for, -forwarded-headers among it.
	flags := options.CustomHttpHandlerWrap
	plain := &http.Server{
		Addr:              options.InsecureAddress,
		ReadTimeout:       options.ReadTimeoutServer,
		ReadHeaderTimeout: options.ReadHeaderTimeoutServer,
		WriteTimeout:      options.WriteTimeoutServer,
		IdleTimeout:       options.IdleTimeoutServer,
	}
	// Upstream has one server for both listeners. Where the plain one comes first, HTTP/2 is agreed upon over TLS and then not spoken:
	// a server is set up for HTTP/2 once, by its first listener.
	options.InsecureAddress = ""
	options.CustomHttpHandlerWrap = func(proxy http.Handler) http.Handler {
		handler := wellFormed(overTLS(port, withoutClaims(oneByOne(webSockets(flags(proxy))))))
		if plain.Addr != "" {
			plain.Handler = handler
			go func() { log.Fatalf("error: -insecure-address: %v", plain.ListenAndServe()) }()
		}
		return handler
	}
	options.CustomHttpRoundTripperWrap = func(transport http.RoundTripper) http.RoundTripper {
		// By itself it asks for gzip where a client does not, and hands on an unpacked answer: of no length, with another's ETag.
		transport.(*http.Transport).DisableCompression = true
		return refusing{opened{transport}}
	}
	if err := skipper.Run(options); err != nil {
		log.Fatalf("error: %v", err)
	}
}
