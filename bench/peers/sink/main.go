// Takes the whole of every body before it answers, as an upstream does that stores what it is sent; nginx alone answers at once.
package main

import (
	"io"
	"log"
	"net/http"
	"os"
)

func main() {
	log.Fatal(http.ListenAndServe(os.Getenv("LISTEN"), http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			log.Print(err)
		}
	})))
}
