// Gateways as they are written in tutorials, and as one who knows net/http would write them: what bench/gateway.py compares with.
package main

import (
	"log"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"time"
)

func main() {
	target, err := url.Parse(os.Getenv("UPSTREAM"))
	if err != nil {
		log.Fatal(err)
	}
	var handler http.Handler
	if os.Getenv("TUNED") == "" {
		// A proxy per request, and net/http's default transport, which keeps two idle connections to a host.
		handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			httputil.NewSingleHostReverseProxy(target).ServeHTTP(w, r)
		})
	} else {
		proxy := httputil.NewSingleHostReverseProxy(target)
		proxy.Transport = &http.Transport{MaxIdleConns: 0, MaxIdleConnsPerHost: 256, IdleConnTimeout: time.Minute, DisableCompression: true}
		handler = proxy
	}
	log.Fatal(http.ListenAndServe(os.Getenv("LISTEN"), handler))
}
