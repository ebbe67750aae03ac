package main

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
)

// client is who opened a WebSocket: the connection to it is taken over once the gateway has agreed.
//
// Skipper's own -experimental-upgrade loses what the gateway sends along with its agreement, and the header of a refusal.
type client struct {
	http.ResponseWriter
	takenOver bool
}

type clientKey struct{}

// webSockets has a request for a WebSocket carry its client, which opened needs. It comes after withoutClaims, which leaves Upgrade to no other request.
func webSockets(next http.Handler) http.Handler {
	return http.HandlerFunc(func(answer http.ResponseWriter, request *http.Request) {
		if request.Header.Get("Upgrade") != "" {
			answer = &client{ResponseWriter: answer}
			request = request.WithContext(context.WithValue(request.Context(), clientKey{}, answer))
		}
		next.ServeHTTP(answer, request)
	})
}

// opened is a transport to the gateway that returns from a WebSocket once it is closed.
type opened struct {
	http.RoundTripper
}

func (transport opened) RoundTrip(request *http.Request) (*http.Response, error) {
	response, err := transport.RoundTripper.RoundTrip(request)
	if err != nil || response.StatusCode != http.StatusSwitchingProtocols {
		return response, err
	}
	gateway, connected := response.Body.(io.ReadWriteCloser)
	client, asked := request.Context().Value(clientKey{}).(*client)
	if !connected || !asked {
		response.Body.Close()
		return nil, errors.New("an agreement to no upgrade")
	}
	response.Body = http.NoBody
	defer gateway.Close()
	connection, sent, err := client.takeOver()
	if err != nil {
		return nil, err
	}
	defer connection.Close()
	if err := response.Write(connection); err == nil {
		exchange(gateway, connection, sent.Reader)
	}
	return response, nil
}

// exchange passes bytes to and fro until one side ends. What the client has sent already is read first.
func exchange(gateway io.ReadWriter, connection net.Conn, sent *bufio.Reader) {
	done := make(chan struct{}, 2)
	pass := func(to io.Writer, from io.Reader) {
		_, _ = io.Copy(to, from)
		done <- struct{}{}
	}
	go pass(connection, gateway)
	go pass(gateway, sent)
	<-done
}

func (client *client) takeOver() (net.Conn, *bufio.ReadWriter, error) {
	connection, sent, err := http.NewResponseController(client.ResponseWriter).Hijack()
	client.takenOver = err == nil
	return connection, sent, err
}

// WriteHeader, Write and Flush do nothing for a connection that is no longer the server's.
func (client *client) WriteHeader(status int) {
	if !client.takenOver {
		client.ResponseWriter.WriteHeader(status)
	}
}

func (client *client) Write(data []byte) (int, error) {
	if client.takenOver {
		return len(data), nil
	}
	return client.ResponseWriter.Write(data)
}

func (client *client) Flush() {
	if !client.takenOver {
		_ = http.NewResponseController(client.ResponseWriter).Flush()
	}
}

func (client *client) Unwrap() http.ResponseWriter {
	return client.ResponseWriter
}
