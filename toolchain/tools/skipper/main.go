// Skipper as upstream builds it, but with full duplex for HTTP/1.
//
// A Go server closes a request's body once its answer begins. Skipper's transport may still be about to look whether the body has
// ended, takes the closed body for an error, and cuts the answer off: one POST in 25,000 here. See https://go.dev/issue/40747.
package main

import (
	"log"
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
	options.CustomHttpHandlerWrap = fullDuplex
	if err := skipper.Run(options); err != nil {
		log.Fatalf("error: %v", err)
	}
}

// fullDuplex lets a handler read a request while it answers.
func fullDuplex(next http.Handler) http.Handler {
	return http.HandlerFunc(func(answer http.ResponseWriter, request *http.Request) {
		if request.ProtoMajor == 1 {
			if err := http.NewResponseController(answer).EnableFullDuplex(); err != nil {
				log.Printf("full duplex: %v", err)
			}
		}
		next.ServeHTTP(answer, request)
	})
}
