package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// certificateFiles makes a certificate for events.example.com and its key.
func certificateFiles(t *testing.T, ends time.Time) (certFile, keyFile string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "router"}, DNSNames: []string{"events.example.com"},
		NotBefore: ends.Add(-90 * 24 * time.Hour), NotAfter: ends,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	key, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for file, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: der}, keyFile: {Type: "PRIVATE KEY", Bytes: key}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return certFile, keyFile
}

func tlsConfig(t *testing.T, port, certFile, keyFile string) string {
	t.Helper()
	return write(t, fmt.Sprintf(`
server:
  host: 127.0.0.1
  port: %s
  data_dir: %q
  min_free_bytes: 1MiB
  admin_token: planted-admin
  tls: {cert_file: %q, key_file: %q}
api_keys: [{id: web, server_secret: s2s.web}]
destinations: {crm: {type: hubspot, staged: true, hubspot: {access_token: pat, hub_id: "1"}}}
`, port, t.TempDir(), certFile, keyFile))
}

// TestCheckReadsCertificate: check names the line of a pair that is none, and warns of one that ends.
func TestCheckReadsCertificate(t *testing.T) {
	in90Days := time.Now().Add(90 * 24 * time.Hour)
	good, goodKey := certificateFiles(t, in90Days)
	_, otherKey := certificateFiles(t, in90Days)
	soon, soonKey := certificateFiles(t, time.Now().Add(48*time.Hour))
	ended, endedKey := certificateFiles(t, time.Now().Add(-time.Hour))
	f := func(certFile, keyFile string, code int, want string) {
		t.Helper()
		out, errText, got := command(t, "check", "--config", tlsConfig(t, "8443", certFile, keyFile))
		if got != code || !strings.Contains(out+errText, want) || strings.Contains(out+errText, "PRIVATE") {
			t.Errorf("%s, %s: status %d\n%s%s", certFile, keyFile, got, out, errText)
		}
	}
	f(good, goodKey, 0, "ok: 1 API key")
	f(good, otherKey, 2, "router.yaml:8: server.tls.cert_file: ")
	f(good, "no-such-file", 2, "router.yaml:8: server.tls.key_file: stat no-such-file")
	f(soon, soonKey, 0, "warning: ")
	f(ended, endedKey, 0, "has ended, at ")
}

// TestExplainOverTLS: the command asks the router that runs, whose certificate is for another name; and nobody who only listens there.
func TestExplainOverTLS(t *testing.T) {
	in90Days := time.Now().Add(90 * 24 * time.Hour)
	certFile, keyFile := certificateFiles(t, in90Days)
	port := freePort(t)
	config := tlsConfig(t, port, certFile, keyFile)
	cfg, err := load(config)
	if err != nil {
		t.Fatal(err)
	}
	srv, err := newService(cfg, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		t.Fatal(err)
	}
	r := runService(t, srv, port)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	res, err := client.Post("https://127.0.0.1:"+port+"/s2s/event?token=s2s.web", "application/json", strings.NewReader(`{"event_id":"e1","event_type":"x"}`))
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("posting: %v, %v", res, err)
	}
	res.Body.Close()
	if out, errText, code := command(t, "explain", "e1", "--config", config); code != 0 || !strings.Contains(out, "with API key web: x") {
		t.Errorf("status %d\n%s%s", code, out, errText)
	}
	r.stop()

	strange, strangeKey := certificateFiles(t, in90Days)
	pair, err := tls.LoadX509KeyPair(strange, strangeKey)
	if err != nil {
		t.Fatal(err)
	}
	other, err := tls.Listen("tcp", "127.0.0.1:"+port, &tls.Config{Certificates: []tls.Certificate{pair}})
	if err != nil {
		t.Fatal(err)
	}
	asked := make(chan struct{})
	server := &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { close(asked) })}
	go func() { _ = server.Serve(other) }()
	defer server.Close()
	if out, errText, code := command(t, "explain", "e1", "--config", config); code == 0 || !strings.Contains(errText, "is not the one of") {
		t.Errorf("status %d\n%s%s", code, out, errText)
	}
	select {
	case <-asked:
		t.Error("the admin token was sent to a stranger")
	default:
	}
}
