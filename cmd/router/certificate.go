package main

import (
	"bytes"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"

	"eventrouter/pkg/config"
	"eventrouter/pkg/ingest"
)

// certificateOf reads the certificate of a configuration; nil where it has none. An error names the line.
func certificateOf(cfg *config.Config, o ingest.CertificateOptions) (*ingest.Certificate, error) {
	set := cfg.Server.TLS
	if !set.Enabled() {
		return nil, nil
	}
	c, err := ingest.NewCertificate(set, o)
	var wrong *ingest.CertificateError
	if errors.As(err, &wrong) {
		err = usageError{config.Problems{{Pos: set.Pos, Path: "server.tls." + wrong.Key, Text: wrong.Problem}}}
	}
	return c, err
}

// checkCertificate is certificateOf for `router check`: what is to be said of its end becomes a warning.
func checkCertificate(cfg *config.Config) error {
	c, err := certificateOf(cfg, ingest.CertificateOptions{})
	if err != nil || c == nil {
		return err
	}
	if problem := ingest.Ending(c.Leaf(), time.Now()); problem != "" {
		cfg.Warnings = append(cfg.Warnings, config.Problem{Pos: cfg.Server.TLS.Pos, Path: "server.tls.cert_file", Text: problem})
	}
	return nil
}

// ownTransport reaches the router of a configuration at this machine's address, for which its certificate is not made: it must be the one of
// cert_file, whatever its names are.
func ownTransport(set config.TLS) (*http.Transport, error) {
	t := &http.Transport{DisableKeepAlives: true} // no proxy: the token is for the router
	if !set.Enabled() {
		return t, nil
	}
	data, err := os.ReadFile(set.CertFile)
	if err != nil {
		return nil, err
	}
	own, _ := pem.Decode(data)
	t.TLSClientConfig = &tls.Config{
		InsecureSkipVerify: true, // VerifyConnection does it
		VerifyConnection: func(s tls.ConnectionState) error {
			if own == nil || !bytes.Equal(own.Bytes, s.PeerCertificates[0].Raw) {
				return fmt.Errorf("its certificate is not the one of %s", set.CertFile)
			}
			return nil
		},
	}
	return t, nil
}
