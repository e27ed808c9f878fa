package ingest

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"eventrouter/pkg/config"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"golang.org/x/sync/errgroup"
)

// testPair makes a certificate of that serial number, and its key.
func testPair(t *testing.T, serial int64, ends time.Time) (cert, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "router"}, DNSNames: []string{"router.test"},
		NotBefore: ends.Add(-90 * 24 * time.Hour), NotAfter: ends,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})
}

func write(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// pairFiles writes a pair into a directory of its own.
func pairFiles(t *testing.T) func(cert, key []byte) config.TLS {
	return func(cert, key []byte) config.TLS {
		t.Helper()
		dir := t.TempDir()
		set := config.TLS{CertFile: filepath.Join(dir, "cert.pem"), KeyFile: filepath.Join(dir, "key.pem"), MinVersion: tls.VersionTLS12}
		write(t, set.CertFile, cert)
		write(t, set.KeyFile, key)
		return set
	}
}

// Over TLS all is as without. A changed pair is what new connections get, and those that are open go on.
func TestHTTPS(t *testing.T) {
	in90Days := time.Now().Add(90 * 24 * time.Hour)
	set := pairFiles(t)(testPair(t, 1, in90Days))
	cert, err := NewCertificate(set, CertificateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	log := &memoryLog{}
	o := testOptions(log)
	o.Certificate = cert
	addr := strings.TrimPrefix(start(t, o), "http://")

	trusted := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: true}}
	defer trusted.CloseIdleConnections()
	post := func(c *http.Client) *http.Response {
		t.Helper()
		resp, err := c.Post("https://"+addr+"/s2s/event?token=s2s.open", "application/json", strings.NewReader(`{"event_type":"x"}`))
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		return resp
	}
	serial := func(r *http.Response) int64 { return r.TLS.PeerCertificates[0].SerialNumber.Int64() }
	fresh := func() *http.Client {
		return &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}}
	}
	resp := post(trusted)
	if resp.StatusCode != 200 || resp.Proto != "HTTP/1.1" || resp.TLS.NegotiatedProtocol != "http/1.1" || serial(resp) != 1 {
		t.Errorf("got %d, %s, %q, certificate %d", resp.StatusCode, resp.Proto, resp.TLS.NegotiatedProtocol, serial(resp))
	}
	if ev := log.take(t)[0]; ev.SourceIP != "127.0.0.1" {
		t.Errorf("address %q", ev.SourceIP)
	}

	// Half of a new pair changes nothing, all of it is served.
	newCert, newKey := testPair(t, 2, in90Days)
	write(t, set.CertFile, newCert)
	cert.Reload()
	if got := serial(post(fresh())); got != 1 {
		t.Errorf("certificate %d while only one file is new", got)
	}
	write(t, set.KeyFile, newKey)
	cert.Reload()
	if got := serial(post(fresh())); got != 2 {
		t.Errorf("certificate %d after a change", got)
	}
	if got := serial(post(trusted)); got != 1 {
		t.Errorf("an open connection has certificate %d", got)
	}

	for version, ok := range map[uint16]bool{tls.VersionTLS11: false, tls.VersionTLS12: true, tls.VersionTLS13: true} {
		conn, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS10, MaxVersion: version})
		if (err == nil) != ok {
			t.Errorf("%s: %v", tls.VersionName(version), err)
		}
		if err == nil {
			conn.Close()
		}
	}

	// Who forgets the s of https is told.
	if got := raw(t, addr, "GET /ping HTTP/1.1\r\nHost: r\r\n\r\n"); got.status != 400 || !strings.Contains(got.body, "HTTPS") {
		t.Errorf("over HTTP: got %d %s", got.status, got.body)
	}
}

// Clients that begin a handshake and stop are cut off, while others are served.
func TestSlowHandshakes(t *testing.T) {
	cert, key := testPair(t, 1, time.Now().Add(90*24*time.Hour))
	c, err := NewCertificate(pairFiles(t)(cert, key), CertificateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	send(t, "GET", start(t, testOptions(&memoryLog{}))+"/ping", nil) // fasthttp's clock for Date headers never ends: not in the bubble
	synctest.Test(t, func(t *testing.T) {
		o := testOptions(&memoryLog{})
		o.Certificate = c
		b := newBubble(t, o)
		began := time.Now()
		var g errgroup.Group
		for range 50 {
			conn, answers := b.dial("203.0.113.7")
			g.Go(func() error {
				if _, err := conn.Write([]byte{22, 3, 1, 1, 0, 1}); err != nil { // a record and a hello that do not go on
					return err
				}
				_, err := io.Copy(io.Discard, answers)
				return err
			})
		}
		near, far := net.Pipe()
		b.ln.conns <- fromAddr{far, "198.51.100.1"}
		defer near.Close()
		secure := tls.Client(near, &tls.Config{InsecureSkipVerify: true})
		defer secure.Close()
		if _, err := io.WriteString(secure, "GET /ping HTTP/1.1\r\nHost: r\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		if resp, err := http.ReadResponse(bufio.NewReader(secure), nil); err != nil || resp.StatusCode != 200 {
			t.Errorf("a good client got %v, %v", resp, err)
		}
		if time.Since(began) > time.Second {
			t.Errorf("a good client waited %s", time.Since(began))
		}
		if err := g.Wait(); err != nil {
			t.Error(err)
		}
		if took := time.Since(began); took > handshakeTimeout+time.Second {
			t.Errorf("slow handshakes lasted %s", took)
		}
	})
}

// sharedText is a log that a test reads while it grows.
type sharedText struct {
	mu   sync.Mutex
	text strings.Builder
}

func (s *sharedText) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

func (s *sharedText) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// The certificate follows its files by itself. What is no pair is said once, and only when it stays.
func TestCertificateFollowsItsFiles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out sharedText
		reg := prometheus.NewRegistry()
		day := 24 * time.Hour
		set := pairFiles(t)(testPair(t, 1, time.Now().Add(60*day)))
		c, err := NewCertificate(set, CertificateOptions{Registerer: reg, Logger: slog.New(slog.NewTextHandler(&out, nil))})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- c.Run(ctx) }()
		// f waits, and wants the certificate of a number in use and so many lines of the log with a text.
		f := func(wait time.Duration, serial int64, text string, lines int) {
			t.Helper()
			time.Sleep(wait)
			synctest.Wait()
			if got := c.Leaf().SerialNumber.Int64(); got != serial {
				t.Errorf("certificate %d is in use, want %d", got, serial)
			}
			if want := float64(c.Leaf().NotAfter.Unix()); testutil.ToFloat64(c.expiry) != want {
				t.Errorf("the metric is %v, want %v", testutil.ToFloat64(c.expiry), want)
			}
			if got := strings.Count(out.String(), text); got != lines {
				t.Errorf("%d lines with %q, want %d:\n%s", got, text, lines, out.String())
			}
		}
		f(10*time.Minute, 1, "level", 0)

		cert2, key2 := testPair(t, 2, time.Now().Add(90*day))
		write(t, set.CertFile, cert2) // and the key a moment later
		f(certificateInterval, 1, "level", 0)
		write(t, set.KeyFile, key2)
		f(certificateInterval, 2, "the changed TLS certificate is in use", 1)

		_, strange := testPair(t, 3, time.Now().Add(90*day))
		write(t, set.KeyFile, strange)
		f(time.Hour, 2, "not usable", 1)
		write(t, set.KeyFile, []byte("rubbish"))
		f(time.Hour, 2, "not usable", 2)
		if err := os.Remove(set.KeyFile); err != nil {
			t.Fatal(err)
		}
		f(certificateInterval, 2, "not usable", 2) // as between the removal of a file and its replacement
		f(time.Hour, 2, "not usable", 3)
		write(t, set.KeyFile, key2) // as it was
		f(time.Hour, 2, "not usable", 3)

		expiredCert, expiredKey := testPair(t, 4, time.Now().Add(-day))
		write(t, set.CertFile, expiredCert)
		write(t, set.KeyFile, expiredKey)
		f(time.Hour, 2, "has ended", 1)

		soonCert, soonKey := testPair(t, 5, time.Now().Add(3*day))
		write(t, set.CertFile, soonCert)
		write(t, set.KeyFile, soonKey)
		f(time.Hour, 5, "ends soon", 1)
		f(2*day, 5, "ends soon", 3) // at once, and daily
		f(day, 5, "certificate has ended, at", 1)
		if strings.Contains(out.String(), "PRIVATE") {
			t.Errorf("a key in the log:\n%s", out.String())
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestCertificatesThatAreNone(t *testing.T) {
	cert, key := testPair(t, 1, time.Now().Add(time.Hour))
	_, other := testPair(t, 2, time.Now().Add(time.Hour))
	f := func(cert, key []byte, want string) {
		t.Helper()
		set := pairFiles(t)(cert, key)
		_, err := NewCertificate(set, CertificateOptions{})
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "PRIVATE") {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	f(nil, key, "tls.cert_file: ")
	f(key, key, "holds no certificate in PEM, but a private key")
	f(cert, cert, "tls.key_file: ")
	f(cert, []byte("-----BEGIN ENCRYPTED PRIVATE KEY-----\nMA==\n-----END ENCRYPTED PRIVATE KEY-----\n"), "is encrypted")
	f(cert, other, "make no pair")
	f([]byte("-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n"), key, "make no pair")
	if _, err := NewCertificate(config.TLS{CertFile: "/dev/zero", KeyFile: "/dev/zero"}, CertificateOptions{}); err == nil || !strings.Contains(err.Error(), "no PEM file") {
		t.Errorf("a device: %v", err)
	}
	if _, err := NewCertificate(config.TLS{CertFile: "no-such.pem", KeyFile: "x"}, CertificateOptions{}); err == nil || !strings.Contains(err.Error(), "tls.cert_file: ") {
		t.Errorf("no file: %v", err)
	}
}
