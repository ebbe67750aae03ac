package main

import (
	"io"
	"log"
	"net/http"
	"sync/atomic"
	"time"
)

const (
	// restWithin is for a client to send the rest of a body that its answer did not wait for: as long as the gateway waits for a piece of one.
	restWithin = 20 * time.Second
	// lingering is for a client to read why it was refused while it is still sending, as the gateway has it (RFC 9112, section 9.6).
	lingering = 2 * time.Second
)

// oneByOne lets a handler read a request while it answers, and waits until the request has come to its end.
//
// A Go server closes a request's body once its answer begins. Skipper's transport may still be about to look whether the body has
// ended, takes the closed body for an error, and cuts the answer off: one POST in 25,000 here. See https://go.dev/issue/40747.
//
// A service may answer before it has the whole body. Skipper's transport is then still waiting for the rest when the server ends
// the exchange, is interrupted in that, and closes a body of which more is to come: that would be read as the next request, which
// whoever shares the connection could write. httputil.ReverseProxy closes the body itself for that; see https://go.dev/issue/46866.
func oneByOne(next http.Handler) http.Handler {
	return http.HandlerFunc(func(answer http.ResponseWriter, request *http.Request) {
		// Of a copy: the server looks at its own request for whether the body was read to its end.
		watchedRequest := request.WithContext(request.Context())
		if request.ContentLength == 0 { // by NoBody alone, Skipper knows that it may ask another gateway
			watchedRequest.Body = http.NoBody
			next.ServeHTTP(answer, watchedRequest)
			return
		}
		controller := http.NewResponseController(answer)
		body := &watched{ReadCloser: request.Body, alone: request.ProtoMajor > 1, left: request.ContentLength}
		if !body.alone {
			if err := controller.EnableFullDuplex(); err != nil {
				log.Printf("full duplex: %v", err)
			}
		}
		watchedRequest.Body = body
		next.ServeHTTP(answer, watchedRequest)
		if !body.alone {
			_ = controller.SetReadDeadline(time.Now().Add(restWithin))
		}
		// What is left is read up to 256 KiB; past that, the server closes the connection.
		_ = body.Close()
		if body.broken.Load() && !body.alone {
			end(controller)
		}
	})
}

// end closes a connection once its client has had the time to read its answer: closed at once while more comes, it would be reset.
func end(controller *http.ResponseController) {
	if err := controller.Flush(); err != nil {
		panic(http.ErrAbortHandler)
	}
	connection, _, err := controller.Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	defer connection.Close()
	if err := connection.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		return
	}
	_ = connection.SetReadDeadline(time.Now().Add(lingering))
	_, _ = io.Copy(io.Discard, connection)
}

// watched is a request's body that notes whether it broke: what comes after a broken chunk is no request. A Go server closes the
// connection then, but not with full duplex (cw.writeHeader in net/http/server.go).
type watched struct {
	io.ReadCloser
	// alone is a body whose connection goes on whatever becomes of it: in HTTP/2.
	alone bool
	// left is what has still to come, where that is known.
	left   int64
	broken atomic.Bool
	closed atomic.Bool
	// fault is why its client's body could not be read, where it is not closed from this side before.
	fault atomic.Pointer[error]
}

// Read returns the last bytes together with the end alone: in HTTP/2 a body that has its length may still turn out to be none, and the
// gateway would have taken it for whole (RFC 9113, section 8.1.1).
func (body *watched) Read(into []byte) (int, error) {
	n, err := body.ReadCloser.Read(into)
	if body.left -= int64(n); body.left == 0 && err == nil {
		_, err = body.ReadCloser.Read(make([]byte, 1))
	}
	if err == nil || err == io.EOF || err == http.ErrBodyReadAfterClose {
		return n, err
	}
	body.broken.Store(true)
	if !body.closed.Load() {
		body.fault.Store(&err)
	}
	return 0, err
}

func (body *watched) Close() error {
	body.closed.Store(true)
	err := body.ReadCloser.Close()
	if err != nil {
		body.broken.Store(true)
	}
	return err
}
