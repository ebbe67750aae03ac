package main

import (
	"net/http"
	"net/textproto"
	"strings"
)

// claims are headers by which proxies tell servers, or clients tell frameworks, who asks, from where, and for what; X-Forwarded-…
// are such, too. From a client they are its word against what the connection shows.
var claims = map[string]bool{
	"forwarded":              true, // RFC 7239
	"true-client-ip":         true,
	"x-client-ip":            true,
	"x-cluster-client-ip":    true,
	"x-http-method":          true,
	"x-http-method-override": true,
	"x-method-override":      true,
	"x-original-host":        true,
	"x-original-url":         true,
	"x-real-ip":              true,
	"x-rewrite-url":          true,
}

// hops are headers for the next hop alone (RFC 9110, section 7.6.1). Content-Length and Transfer-Encoding need no mention: the Go
// server has read them, and its transport writes its own.
var hops = []string{"Connection", "Keep-Alive", "Proxy-Authorization", "Proxy-Connection", "Te", "Upgrade"}

// withoutClaims takes out of a request what a client has no say in. It comes before the handler that says where a request is from,
// so that no Connection header can take that out again.
func withoutClaims(next http.Handler) http.Handler {
	return http.HandlerFunc(func(answer http.ResponseWriter, request *http.Request) {
		header := request.Header
		webSocket := opensWebSocket(request)
		for _, option := range connectionOptions(header) {
			if isForAll(option) {
				http.Error(answer, "Connection names "+option+", which every recipient has to see", http.StatusBadRequest)
				return
			}
			header.Del(option)
		}
		for _, name := range hops {
			header.Del(name)
		}
		for name := range header {
			if isClaim(name) {
				delete(header, name)
			}
		}
		if webSocket {
			header.Set("Connection", "Upgrade")
			header.Set("Upgrade", "websocket")
		}
		next.ServeHTTP(answer, request)
	})
}

// isForAll knows the fields of framing, routing, identity, content and conditions. Named in Connection, they would be taken away from
// the gateway, and a message would mean something else there; the gateway refuses that as well (RFC 9110, section 7.6.1).
func isForAll(name string) bool {
	switch name {
	case "Authorization", "Cookie", "Expect", "Forwarded", "Host", "Idempotency-Key", "Origin", "Range", "Traceparent", "Tracestate",
		"Transfer-Encoding", "X-Request-Id", "X-Request-Timeout-Ms":
		return true
	}
	for _, prefix := range []string{"Accept", "Cache-", "Content-", "If-", "X-Forwarded-"} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

// isClaim knows a header by the name that CGI and WSGI give it, in which - and _ are the same.
func isClaim(name string) bool {
	name = strings.ReplaceAll(strings.ToLower(name), "_", "-")
	return claims[name] || strings.HasPrefix(name, "x-forwarded-")
}

// opensWebSocket tells the one upgrade that there is here (RFC 6455, section 4.1). Any other is ignored, as RFC 9110, section 7.8
// allows, and wants of those in HTTP/1.0: Skipper would take a request with it for a tunnel, and drop the header of its answer.
func opensWebSocket(request *http.Request) bool {
	upgrade := request.Header["Upgrade"]
	if !request.ProtoAtLeast(1, 1) || request.Method != http.MethodGet || request.ContentLength != 0 || len(upgrade) != 1 {
		return false
	}
	for _, option := range connectionOptions(request.Header) {
		if option == "Upgrade" {
			return strings.EqualFold(upgrade[0], "websocket")
		}
	}
	return false
}

// connectionOptions are what a request's Connection headers list, in the canonical form of header names.
func connectionOptions(header http.Header) []string {
	var options []string
	for _, value := range header["Connection"] {
		for option := range strings.SplitSeq(value, ",") {
			options = append(options, textproto.CanonicalMIMEHeaderKey(textproto.TrimString(option)))
		}
	}
	return options
}
