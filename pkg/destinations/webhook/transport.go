package webhook

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"

	"eventrouter/pkg/destinations"
)

const (
	dialTimeout = 10 * time.Second
	// idlePerHost is how many connections to one host are kept for later.
	idlePerHost = 32
)

// transportKey names the transport that destinations with the same rules share.
func (d *Destination) transportKey() string {
	sum := sha256.Sum256([]byte(d.set.Proxy))
	return fmt.Sprintf("webhook/transport|%v|%v|%s", d.networks.private, d.networks.listed, hex.EncodeToString(sum[:8]))
}

// dialer looks at each address after DNS has said it and before anything is sent there. A proxy is where the configuration says, wherever that is.
func (d *Destination) dialer() *net.Dialer {
	dialer := &net.Dialer{Timeout: dialTimeout}
	if d.set.Proxy == "" {
		dialer.Control = d.networks.control
	}
	return dialer
}

func (d *Destination) newTransport() *http.Transport {
	dialer := d.dialer()
	t := &http.Transport{
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			return dialer.DialContext(ctx, network, addr)
		},
		TLSHandshakeTimeout: dialTimeout, IdleConnTimeout: 90 * time.Second, MaxIdleConnsPerHost: idlePerHost,
		ForceAttemptHTTP2: true, HTTP2: destinations.HTTP2(), DisableCompression: true, MaxResponseHeaderBytes: maxAnswer,
	}
	if u, err := url.Parse(string(d.set.Proxy)); err == nil && d.set.Proxy != "" {
		t.Proxy = http.ProxyURL(u) // never from the environment: it would be asked for every host, and see all
	}
	return t
}
