package webhook

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"time"

	"eventrouter/pkg/destinations"
)

// soonExpired is how long before its end a certificate is a warning.
const soonExpired = 14 * 24 * time.Hour

// Test implements [destinations.Tester]. It makes a connection to the endpoint, with TLS where the url has it, and sends nothing over it: a request, whatever its
// method, would be an event to many receivers. So it cannot say whether the path is right and the credentials are taken.
func (d *Destination) Test(ctx context.Context) []destinations.Finding {
	findings := []destinations.Finding{d.testSignature()}
	if d.set.Proxy != "" {
		return append(findings, destinations.Finding{
			Check: "address", Level: destinations.FindingUnknown, Text: "calls go through a proxy, which is not asked to connect without a request",
		})
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	at := net.JoinHostPort(d.address.host, d.address.port)
	conn, err := d.dialer().DialContext(ctx, "tcp", at)
	if err != nil {
		return append(findings, destinations.Finding{
			Check: "address", Level: destinations.FindingError, Text: fmt.Sprintf("no connection to %s: %v", at, err),
			Fix: "check url, DNS and firewalls",
		})
	}
	defer conn.Close()
	findings = append(findings, destinations.Finding{
		Check: "address", Level: destinations.FindingOK, Text: fmt.Sprintf("%s answers at %s", at, conn.RemoteAddr()),
	})
	return append(findings, d.testTLS(ctx, conn))
}

func (d *Destination) testSignature() destinations.Finding {
	if len(d.signer.keys) > 0 {
		return destinations.Finding{Check: "signature", Level: destinations.FindingOK, Text: "requests are signed"}
	}
	return destinations.Finding{
		Check: "signature", Level: destinations.FindingWarning, Text: "requests are not signed: the receiver can not tell that they come from this router",
		Fix: "set secret, made with: openssl rand -base64 32",
	}
}

// testTLS looks at the certificate of a connection.
func (d *Destination) testTLS(ctx context.Context, conn net.Conn) destinations.Finding {
	f := destinations.Finding{Check: "tls", Level: destinations.FindingOK}
	if d.address.scheme != "https" {
		f.Level, f.Text, f.Fix = destinations.FindingWarning, "events go over the network unencrypted", "write an https:// url"
		return f
	}
	secure := tls.Client(conn, &tls.Config{ServerName: d.address.host, RootCAs: d.roots})
	if err := secure.HandshakeContext(ctx); err != nil {
		f.Level, f.Text, f.Fix = destinations.FindingError, err.Error(), "the receiver needs a certificate for its host that this machine trusts"
		return f
	}
	state := secure.ConnectionState()
	end := state.PeerCertificates[0].NotAfter
	f.Text = fmt.Sprintf("%s, certificate until %s", tls.VersionName(state.Version), end.UTC().Format(time.DateOnly))
	if time.Until(end) < soonExpired {
		f.Level, f.Fix = destinations.FindingWarning, "renew the certificate of the receiver"
	}
	return f
}
