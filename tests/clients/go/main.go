// Command client sends a file with Go's net/http as a registry client does, then asks for /v2/ on
// the same http.Client, and prints as one line of JSON what it saw of both.
package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"os"
	"time"
)

type outcome struct {
	Status     int    `json:"status"`
	Code       string `json:"code"`
	Proto      string `json:"proto"`
	Error      string `json:"error,omitempty"`
	NextStatus int    `json:"next_status"`
	NextReused bool   `json:"next_reused"`
	NextError  string `json:"next_error,omitempty"`
}

var (
	base     = flag.String("base", "", "scheme, host and port")
	path     = flag.String("path", "", "path to send to")
	method   = flag.String("method", "PUT", "method to send with")
	file     = flag.String("file", "", "the body")
	ca       = flag.String("ca", "", "PEM file of the authority to trust")
	user     = flag.String("user", "", "user name")
	password = flag.String("password", "", "password")
	http2    = flag.Bool("http2", false, "speak HTTP/2")
	chunked  = flag.Bool("chunked", false, "announce no length")
	expect   = flag.Bool("expect", false, "ask before sending the body")
	wait     = flag.Duration("wait", 10*time.Second, "how long to wait for that answer")
	limit    = flag.Duration("limit", 2*time.Minute, "how long one request may take")
)

func main() {
	flag.Parse()
	client, err := newClient()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	var seen outcome
	if err := push(client, &seen); err != nil {
		seen.Error = err.Error()
	}
	if err := next(client, &seen); err != nil {
		seen.NextError = err.Error()
	}
	if err := json.NewEncoder(os.Stdout).Encode(seen); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func newClient() (*http.Client, error) {
	transport := &http.Transport{
		ExpectContinueTimeout: *wait,
		ForceAttemptHTTP2:     *http2,
		TLSClientConfig:       &tls.Config{},
	}
	if !*http2 {
		// The documented way to keep to HTTP/1.1.
		transport.TLSNextProto = map[string]func(string, *tls.Conn) http.RoundTripper{}
	}
	if *ca != "" {
		pem, err := os.ReadFile(*ca)
		if err != nil {
			return nil, err
		}
		roots := x509.NewCertPool()
		if !roots.AppendCertsFromPEM(pem) {
			return nil, errors.New("no certificate in " + *ca)
		}
		transport.TLSClientConfig.RootCAs = roots
	}
	return &http.Client{
		Transport: transport,
		Timeout:   *limit,
		CheckRedirect: func(*http.Request, []*http.Request) error {
			return http.ErrUseLastResponse
		},
	}, nil
}

func push(client *http.Client, seen *outcome) error {
	body, err := os.Open(*file)
	if err != nil {
		return err
	}
	defer body.Close()
	info, err := body.Stat()
	if err != nil {
		return err
	}
	request, err := http.NewRequest(*method, *base+*path, body)
	if err != nil {
		return err
	}
	request.ContentLength = info.Size()
	if *chunked {
		request.ContentLength = -1
	}
	request.Header.Set("Content-Type", "application/octet-stream")
	if *expect {
		request.Header.Set("Expect", "100-continue")
	}
	if *user != "" {
		request.SetBasicAuth(*user, *password)
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	seen.Status, seen.Proto = response.StatusCode, response.Proto
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return fmt.Errorf("the answer's body: %w", err)
	}
	var answer struct {
		Errors []struct {
			Code string `json:"code"`
		} `json:"errors"`
	}
	if json.Unmarshal(text, &answer) == nil && len(answer.Errors) > 0 {
		seen.Code = answer.Errors[0].Code
	}
	return nil
}

func next(client *http.Client, seen *outcome) error {
	request, err := http.NewRequest(http.MethodGet, *base+"/v2/", nil)
	if err != nil {
		return err
	}
	trace := &httptrace.ClientTrace{
		GotConn: func(info httptrace.GotConnInfo) { seen.NextReused = info.Reused },
	}
	request = request.WithContext(httptrace.WithClientTrace(request.Context(), trace))
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if _, err := io.Copy(io.Discard, response.Body); err != nil {
		return err
	}
	seen.NextStatus = response.StatusCode
	return nil
}
