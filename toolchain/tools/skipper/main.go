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
	options.CustomHttpHandlerWrap = func(proxy http.Handler) http.Handler {
		return overTLS(port, withoutClaims(oneByOne(webSockets(flags(proxy)))))
	}
	options.CustomHttpRoundTripperWrap = func(transport http.RoundTripper) http.RoundTripper {
		return opened{transport}
	}
	if err := skipper.Run(options); err != nil {
		log.Fatalf("error: %v", err)
	}
}
