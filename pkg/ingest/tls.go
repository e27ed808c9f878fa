package ingest

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"eventrouter/pkg/config"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	// certificateInterval is how often the files are looked at. Renewals come weeks before the end, so it need not be soon.
	certificateInterval = 10 * time.Second

	// expiresSoon is when a certificate is warned about: those of Let's Encrypt are renewed with 30 days left.
	expiresSoon = 14 * 24 * time.Hour

	handshakeTimeout = 10 * time.Second

	// maxCertificateBytes bounds a file: a chain has some kilobytes, and what is larger is another file.
	maxCertificateBytes = 1 << 20
)

// Certificate is the server's certificate, read anew when its files change. Make one with NewCertificate.
type Certificate struct {
	settings config.TLS
	logger   *slog.Logger
	expiry   prometheus.Gauge
	current  atomic.Pointer[tls.Certificate]

	mu     sync.Mutex // guards the fields below
	used   [2][]byte  // the files that current was read from
	seen   [2][]byte  // at the last look, where they are others
	unread string     // why they could not be read then; "" where they could
	failed bool       // those were tried, and that was logged
	warned time.Time  // when its end was last warned about
}

// CertificateOptions are whom a Certificate tells.
type CertificateOptions struct {
	Registerer prometheus.Registerer // nil: nobody
	Logger     *slog.Logger          // nil: discarded
}

// NewCertificate reads the files. An error says which file is wrong, and how; never what stands in it.
func NewCertificate(settings config.TLS, o CertificateOptions) (*Certificate, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	c := &Certificate{settings: settings, logger: o.Logger, expiry: prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "router_tls_certificate_expiry_timestamp_seconds", Help: "When the certificate that is in use ends, in seconds since 1970.",
	})}
	if o.Registerer != nil {
		if err := o.Registerer.Register(c.expiry); err != nil {
			return nil, fmt.Errorf("ingest: %w", err)
		}
	}
	files, err := c.read()
	if err != nil {
		return nil, err
	}
	pair, err := c.parse(files)
	if err != nil {
		return nil, err
	}
	c.use(files, pair)
	return c, nil
}

// Run takes in files that change, until ctx ends.
func (c *Certificate) Run(ctx context.Context) error {
	tick := time.NewTicker(certificateInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			c.refresh(true)
		case <-ctx.Done():
			return nil
		}
	}
}

// Reload looks at the files at once. Where they are no usable pair, the certificate stays.
func (c *Certificate) Reload() { c.refresh(false) }

// Leaf is the server's own certificate as it is in use.
func (c *Certificate) Leaf() *x509.Certificate { return c.current.Load().Leaf }

// refresh looks at the files once. A pair that is no use is complained about once; patient: only when it was the same at the last look, for the two
// files are not written at the same time.
func (c *Certificate) refresh(patient bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.warnLocked(time.Now())
	files, err := c.read()
	if err == nil && same(files, c.used) {
		c.seen, c.unread, c.failed = [2][]byte{}, "", false
		return
	}
	unread := ""
	if err != nil {
		unread = err.Error()
	}
	again := same(files, c.seen) && unread == c.unread
	if again && c.failed {
		return
	}
	c.seen, c.unread, c.failed = files, unread, false
	var pair *tls.Certificate
	if err == nil {
		pair, err = c.parse(files)
	}
	if err == nil && pair.Leaf.NotAfter.Before(time.Now()) && pair.Leaf.NotAfter.Before(c.Leaf().NotAfter) {
		err = &CertificateError{"cert_file", fmt.Sprintf("%s has ended, at %s", c.settings.CertFile, pair.Leaf.NotAfter.UTC().Format(time.RFC3339))}
	}
	switch {
	case err == nil:
		c.useLocked(files, pair)
		c.logger.Info("the changed TLS certificate is in use", "file", c.settings.CertFile, "ends", pair.Leaf.NotAfter.UTC().Format(time.RFC3339))
	case again || !patient:
		c.failed = true
		c.logger.Error("the changed TLS certificate is not usable, the one before stays in use", "error", err.Error(),
			"ends", c.Leaf().NotAfter.UTC().Format(time.RFC3339))
	}
}

func same(a, b [2][]byte) bool { return bytes.Equal(a[0], b[0]) && bytes.Equal(a[1], b[1]) }

// read reads both files.
func (c *Certificate) read() (files [2][]byte, err error) {
	for i, f := range [...]struct{ key, path string }{{"cert_file", c.settings.CertFile}, {"key_file", c.settings.KeyFile}} {
		data, err := readRegular(f.path)
		if err != nil {
			return [2][]byte{}, &CertificateError{Key: f.key, Problem: err.Error()}
		}
		files[i] = data
	}
	return files, nil
}

// readRegular reads a file of reasonable size, and no device, which would never end.
func readRegular(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxCertificateBytes {
		return nil, fmt.Errorf("%s is no PEM file", path)
	}
	return os.ReadFile(path)
}

// CertificateError says which of the two files is wrong.
type CertificateError struct {
	Key     string // cert_file or key_file
	Problem string
}

func (e *CertificateError) Error() string { return "tls." + e.Key + ": " + e.Problem }

// parse makes a pair of the files' content.
func (c *Certificate) parse(files [2][]byte) (*tls.Certificate, error) {
	// Told apart by hand: X509KeyPair's errors do not always say which of the two is wrong.
	if !bytes.Contains(files[0], []byte("-----BEGIN CERTIFICATE-----")) {
		problem := c.settings.CertFile + " holds no certificate in PEM"
		if bytes.Contains(files[0], []byte("PRIVATE KEY-----")) {
			problem += ", but a private key: key_file is for that"
		}
		return nil, &CertificateError{"cert_file", problem}
	}
	if !bytes.Contains(files[1], []byte("PRIVATE KEY-----")) {
		return nil, &CertificateError{"key_file", c.settings.KeyFile + " holds no private key in PEM"}
	}
	if bytes.Contains(files[1], []byte("ENCRYPTED")) {
		return nil, &CertificateError{"key_file", c.settings.KeyFile + " is encrypted, and the router has no pass phrase for it: decrypt it"}
	}
	pair, err := tls.X509KeyPair(files[0], files[1])
	if err != nil {
		return nil, &CertificateError{"cert_file", fmt.Sprintf("%s and %s make no pair: %v", c.settings.CertFile, c.settings.KeyFile, err)}
	}
	return &pair, nil
}

func (c *Certificate) use(files [2][]byte, pair *tls.Certificate) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.useLocked(files, pair)
}

func (c *Certificate) useLocked(files [2][]byte, pair *tls.Certificate) {
	c.current.Store(pair)
	c.used, c.seen, c.unread, c.failed, c.warned = files, [2][]byte{}, "", false, time.Time{}
	c.expiry.Set(float64(pair.Leaf.NotAfter.Unix()))
	c.warnLocked(time.Now())
}

// warnLocked warns of a certificate that ends soon or has ended, once a day. The server goes on with it: some clients do not look, and what they
// send is not lost.
func (c *Certificate) warnLocked(now time.Time) {
	if problem := Ending(c.Leaf(), now); problem != "" && now.Sub(c.warned) >= 24*time.Hour {
		c.warned = now
		c.logger.Warn("the TLS certificate "+problem, "file", c.settings.CertFile)
	}
}

// Ending says what is to be said of the end of a certificate; "" when that is far.
func Ending(leaf *x509.Certificate, now time.Time) string {
	end := leaf.NotAfter.UTC().Format(time.RFC3339)
	switch left := leaf.NotAfter.Sub(now); {
	case left <= 0:
		return "has ended, at " + end + ": clients refuse it"
	case left < expiresSoon:
		return "ends soon, at " + end + ": renew it"
	}
	return ""
}

// config is what connections are made with.
func (c *Certificate) config() *tls.Config {
	return &tls.Config{
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.current.Load(), nil },
		MinVersion:     c.settings.MinVersion,
		NextProtos:     []string{"http/1.1"}, // fasthttp speaks nothing else
	}
}

// secure puts TLS over a connection where there is a certificate.
func (s *Server) secure(conn net.Conn) net.Conn {
	if s.tls == nil {
		return watchable(conn)
	}
	return &secureConn{Conn: tls.Server(conn, s.tls)}
}

// secureConn is a TLS connection whose handshake takes no longer than it should.
type secureConn struct {
	*tls.Conn
	watch
}

// Read implements [net.Conn].
func (c *secureConn) Read(p []byte) (int, error) { return c.read(c.Conn, p) }

// Watch is that of a connection without TLS.
func (c *secureConn) Watch(gone func()) (stop func()) { return c.begin(c.Conn, gone) }

// Handshake is called by fasthttp before anything is read. Who speaks HTTP to this port is told so in HTTP.
func (c *secureConn) Handshake() error {
	if err := c.SetDeadline(time.Now().Add(handshakeTimeout)); err != nil { // fasthttp sets others behind it
		return err
	}
	err := c.Conn.Handshake()
	if record, ok := errors.AsType[tls.RecordHeaderError](err); ok && record.Conn != nil && isHTTP(record.RecordHeader) {
		const body = "This port speaks HTTPS: use https:// in the address\n"
		_, _ = fmt.Fprintf(record.Conn, "HTTP/1.0 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	}
	if err != nil {
		_ = c.NetConn().Close()
		return io.EOF
	}
	return nil
}

// isHTTP says whether the first bytes of a connection are those of a request.
func isHTTP(first [5]byte) bool {
	return slices.Contains([]string{"GET /", "HEAD ", "POST ", "PUT /", "OPTIO", "DELET"}, string(first[:]))
}
