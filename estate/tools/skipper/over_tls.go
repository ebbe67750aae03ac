package main

import (
	"net"
	"net/http"
	"net/url"
	"path"
	"strings"
)

// challenges is where certificate authorities ask, in plain text, whether a host is ours (RFC 8555, section 8.3).
const challenges = "/.well-known/acme-challenge/"

// overTLS answers what comes in plain text with where to ask instead: the same on the port that speaks TLS. Upstream's
// -kubernetes-https-redirect keeps the port, and goes by a header that a client may send.
func overTLS(port string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(answer http.ResponseWriter, request *http.Request) {
		if request.TLS != nil || strings.HasPrefix(path.Clean(request.URL.Path), challenges) {
			next.ServeHTTP(answer, request)
			return
		}
		if request.Host == "" {
			http.Error(answer, "Host says where to ask instead, over TLS", http.StatusBadRequest)
			return
		}
		host := (&url.URL{Host: request.Host}).Hostname()
		answer.Header().Set("Location", "https://"+net.JoinHostPort(host, port)+request.URL.RequestURI())
		answer.WriteHeader(http.StatusPermanentRedirect)
	})
}
