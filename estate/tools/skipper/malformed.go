package main

import (
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"
)

// wellFormed refuses requests that Go lets pass and nothing could make sense of.
func wellFormed(next http.Handler) http.Handler {
	return http.HandlerFunc(func(answer http.ResponseWriter, request *http.Request) {
		if fault := faultOf(answer, request); fault != "" {
			http.Error(answer, fault, http.StatusBadRequest)
			return
		}
		next.ServeHTTP(answer, request)
	})
}

// sayable is a host with a port where there is one, as the gateway has it.
var sayable = regexp.MustCompile(`^(?:[A-Za-z0-9._~-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{0,5})?$`)

// faultOf finds a method that is no token, which Go takes in HTTP/2; a host that is none; a target that is not ASCII, or one such as a:80, which is no path, and of which Skipper can make no URL; a user in it; and a Content-Length that is not that of
// the body: of HTTP/2, Go compares the two only where both are there, and takes what is no number for nothing (RFC 9113, section 8.1.1).
func faultOf(answer http.ResponseWriter, request *http.Request) string {
	if strings.ContainsFunc(request.Method, func(r rune) bool { return !httpguts.IsTokenRune(r) }) {
		return "The method of a request is a token"
	}
	if request.Host != "" && !sayable.MatchString(request.Host) {
		return "Host is a name or an address, and a port where there is one"
	}
	for _, host := range request.Header["Host"] { // of HTTP/2, next to :authority (RFC 9113, section 8.3.1)
		if host != request.Host {
			return "Host is not what :authority is"
		}
	}
	// Go would cut a query at a #, and read a whole URL in :path.
	if strings.ContainsFunc(request.RequestURI, func(r rune) bool { return r <= ' ' || r > '~' || r == '#' }) ||
		(request.ProtoMajor > 1 && !strings.HasPrefix(request.RequestURI, "/")) {
		return "The target of a request is a path, of ASCII without #"
	}
	// Go's transport would make credentials of them (RFC 9110, section 4.2.4).
	if request.URL.User != nil {
		return "The target of a request names no user"
	}
	// Of a target in absolute form the path may be empty (RFC 9112, section 3.2.2).
	if request.URL.Opaque != "" || (request.URL.Path != "" && request.URL.Path[0] != '/') {
		return "The target of a request is a path"
	}
	for _, value := range request.Header["Content-Length"] {
		length, err := strconv.ParseUint(value, 10, 63)
		if err != nil || int64(length) != request.ContentLength || (length == 0 && !ends(answer, request)) {
			return "Content-Length is not that of the body"
		}
	}
	return ""
}

// ends waits for the end of a body that is to be empty. Skipper does not read such a one: it would pass the request on before.
func ends(answer http.ResponseWriter, request *http.Request) bool {
	if request.ProtoMajor > 1 {
		_ = http.NewResponseController(answer).SetReadDeadline(time.Now().Add(restWithin))
	}
	_, err := request.Body.Read(make([]byte, 1))
	return err == io.EOF
}

// refusing is a transport to the gateway that itself refuses a body which cannot be read. Skipper takes most such bodies for errors of
// the service: it answers 500, and counts that (makeBackendRequest in proxy/proxy.go, version 0.22.0).
type refusing struct {
	http.RoundTripper
}

func (transport refusing) RoundTrip(request *http.Request) (*http.Response, error) {
	response, err := transport.RoundTripper.RoundTrip(request)
	body, sent := request.Body.(*watched)
	// Of a client that has left, Skipper knows.
	if err == nil || !sent || body.fault.Load() == nil || request.Context().Err() != nil {
		return response, err
	}
	return malformed(body), nil
}

// malformed is the answer to a request with a body that could not be read.
func malformed(body *watched) *http.Response {
	text := "The body cannot be read: " + (*body.fault.Load()).Error() + "\n"
	header := http.Header{
		"Content-Type":           {"text/plain; charset=utf-8"},
		"Content-Length":         {strconv.Itoa(len(text))},
		"X-Content-Type-Options": {"nosniff"},
	}
	if !body.alone {
		header.Set("Connection", "close")
	}
	return &http.Response{StatusCode: http.StatusBadRequest, Header: header, Body: io.NopCloser(strings.NewReader(text))}
}
