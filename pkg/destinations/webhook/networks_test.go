package webhook

import (
	"context"
	"crypto/tls"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"eventrouter/pkg/destinations"
	"eventrouter/pkg/destinations/destinationtest"
)

func TestNetworks(t *testing.T) {
	f := func(addr string, public, private bool) {
		t.Helper()
		a := netip.MustParseAddr(addr)
		for _, c := range []struct {
			n    networks
			want bool
		}{
			{networks{}, public},
			{networks{private: true}, private},
			{networks{listed: []netip.Prefix{netip.PrefixFrom(a.Unmap().WithZone(""), a.Unmap().BitLen())}}, true},
			{networks{listed: []netip.Prefix{netip.MustParsePrefix("8.8.4.4/32")}}, public},
		} {
			if err := c.n.check(a); (err == nil) != c.want {
				t.Errorf("%s with %+v: %v, want allowed %v", addr, c.n, err, c.want)
			}
		}
	}
	for _, addr := range []string{"8.8.8.8", "1.1.1.1", "172.15.0.1", "172.32.0.1", "100.128.0.1", "169.253.0.1", "223.255.255.255", "::ffff:8.8.8.8", "2606:4700::1111", "2a00::1"} {
		f(addr, true, true)
	}
	for _, addr := range []string{
		"10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "127.0.0.1", "127.255.0.1", "100.64.0.1", "::1", "fd12::1", "fc00::1",
		"::ffff:10.0.0.1", "::ffff:127.0.0.1",
	} {
		f(addr, false, true)
	}
	for _, addr := range []string{
		"169.254.169.254", "169.254.170.2", "::ffff:169.254.169.254", "fd00:ec2::254", "fd20:ce::254", "fd00:42::42", "fe80::1", "fe80::1%eth0", "100.100.100.200", "168.63.129.16", // of machines and clouds
		"0.0.0.0", "0.1.2.3", "::", "192.0.0.192", "192.0.2.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "192.88.99.1",
		"224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255", "ff02::1",
		"64:ff9b::a00:1", "64:ff9b:1::1", "::10.0.0.1", "2002:a00:1::", "2001::1", "2001:db8::1", "3fff::1", "100::1", "fec0::1", "4000::1",
	} {
		f(addr, false, false)
	}
}

// real is a destination that makes its own connections.
func real(t *testing.T, yaml string) *rig {
	t.Helper()
	r := &rig{t: t, env: newRig(t, "").env}
	r.env.Transport = nil
	r.env.Shared = &destinations.Shared{}
	r.reload(yaml)
	t.Cleanup(r.dest.http.CloseIdleConnections)
	return r
}

// TestPrivateAddressesAreNotCalled: whatever a name leads to is looked at when the connection is made.
func TestPrivateAddressesAreNotCalled(t *testing.T) {
	var calls atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { calls.Add(1) }))
	defer server.Close()
	_, port, _ := net.SplitHostPort(server.Listener.Addr().String())
	f := func(yaml, envelope, want string) {
		t.Helper()
		before := calls.Load()
		r := real(t, yaml)
		out := r.send(r.enveloped(`{"JITSU_ENVELOP":` + envelope + `}`))
		if got := destinationtest.Class(out[0].Err); got != want || (calls.Load() > before) != (want == "delivered") {
			t.Errorf("%s %s: %s (%v) with %d calls, want %s", yaml, envelope, got, out[0].Err, calls.Load()-before, want)
		}
	}
	at := "url: http://localhost:" + port + "/\n"
	f(at, `{}`, "blocked")
	f(at+"allow_private: true\n", `{}`, "delivered")
	f(at+"allow_private: [10.0.0.0/8]\n", `{}`, "blocked")
	f(at+"allow_private: [127.0.0.0/8, \"::1\"]\n", `{}`, "delivered")
	f("url: https://example.com/\n", `{"url":"http://localhost:`+port+`/"}`, "rejected") // of the event alone
	f("url: https://example.com/\n", `{"url":"http://127.0.0.1:`+port+`/"}`, "rejected")
	f("url: https://example.com/\n", `{"url":"http://[::ffff:7f00:1]:`+port+`/"}`, "rejected")
}

// TestRedirects: within the host, with method and body, and no further.
func TestRedirects(t *testing.T) {
	var elsewhere atomic.Int32
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere.Add(1) }))
	defer other.Close()
	var arrived atomic.Pointer[received]
	mux := http.NewServeMux()
	mux.HandleFunc("/end", func(w http.ResponseWriter, r *http.Request) {
		body := make([]byte, r.ContentLength)
		_, _ = r.Body.Read(body)
		arrived.Store(&received{method: r.Method, body: string(body), header: r.Header})
	})
	for path, to := range map[string]string{
		"/307": "307 /end", "/308": "308 /end", "/301": "301 /end", "/303": "303 /end", "/a": "307 /b", "/b": "307 /c", "/c": "307 /end", "/z": "307 /a",
		"/out": "307 " + other.URL + "/", "/userinfo": "307 http://u:p@HOST/end", "/upper": "307 http://HOST/end", "/loop": "308 /loop", "/none": "307 ",
	} {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			code, location, _ := strings.Cut(to, " ")
			if location != "" {
				w.Header().Set("Location", strings.ReplaceAll(location, "HOST", r.Host))
			}
			w.WriteHeader(map[string]int{"301": 301, "303": 303, "307": 307, "308": 308}[code])
		})
	}
	server := httptest.NewServer(mux)
	defer server.Close()
	f := func(path, want string) {
		t.Helper()
		arrived.Store(nil)
		r := real(t, "url: "+server.URL+path+"\nallow_private: true\nheaders: {Authorization: Bearer abcdef}\nbody: '({a: 1})'\n")
		out := r.send(r.event(`{}`))
		if got := destinationtest.Class(out[0].Err); got != want {
			t.Errorf("%s: %s (%v), want %s", path, got, out[0].Err, want)
		}
		switch in := arrived.Load(); {
		case (in != nil) != (want == "delivered"):
			t.Errorf("%s: arrived %+v", path, in)
		case in != nil && (in.method != "POST" || in.body != `{"a":1}` || in.header.Get("Authorization") != "Bearer abcdef" || in.header.Get("webhook-id") == ""):
			t.Errorf("%s: arrived changed: %+v", path, in)
		}
	}
	f("/end", "delivered")
	f("/307", "delivered")
	f("/308", "delivered")
	f("/a", "delivered") // three of them
	f("/upper", "delivered")
	f("/z", "blocked") // four
	f("/loop", "blocked")
	f("/301", "blocked") // which would become a GET
	f("/303", "blocked")
	f("/out", "blocked")
	f("/userinfo", "blocked")
	f("/none", "blocked")
	if n := elsewhere.Load(); n != 0 {
		t.Errorf("another host got %d calls", n)
	}
}

// TestWhichRedirectIsSafe is about the step to TLS, for which a test would need the usual ports.
func TestWhichRedirectIsSafe(t *testing.T) {
	f := func(from, to string, want bool) {
		t.Helper()
		get := func(s string) *http.Request {
			u, err := url.Parse(s)
			if err != nil {
				t.Fatal(err)
			}
			return &http.Request{Method: "POST", URL: u, Response: &http.Response{StatusCode: http.StatusTemporaryRedirect}}
		}
		if got := follow(get(to), []*http.Request{get(from)}) == nil; got != want {
			t.Errorf("%s to %s: %v, want %v", from, to, got, want)
		}
	}
	f("http://a.example/x", "https://a.example/y", true)
	f("http://a.example:80/x", "https://a.example:443/y", true)
	f("https://a.example/x", "https://A.example.:443/y", true)
	f("https://a.example/x", "http://a.example/y", false)
	f("http://a.example/x", "https://b.example/y", false)
	f("http://a.example/x", "https://a.example:8443/y", false)
	f("https://a.example/x", "https://a.example:8443/y", false)
	f("https://a.example/x", "https://sub.a.example/y", false)
}

// TestProxy: calls go through the proxy that is configured, and through no other.
func TestProxy(t *testing.T) {
	var through atomic.Pointer[string]
	proxy := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		s := r.URL.String() + " " + r.Header.Get("Proxy-Authorization")
		through.Store(&s)
	}))
	defer proxy.Close()
	r := real(t, "url: http://example.invalid/in\nproxy: "+strings.Replace(proxy.URL, "//", "//user:proxypassword@", 1)+"\n")
	if out := r.send(r.event(`{}`)); out[0].Err != nil {
		t.Error(out[0].Err)
	}
	if got := through.Load(); got == nil || *got != "http://example.invalid/in Basic dXNlcjpwcm94eXBhc3N3b3Jk" {
		t.Errorf("the proxy got %v", got)
	}
	t.Setenv("HTTP_PROXY", proxy.URL)
	if real(t, "url: http://example.invalid/in\n").dest.newTransport().Proxy != nil {
		t.Error("without the setting a proxy may be used")
	}
}

// TestTheLiveCheck: what a person is told of an endpoint, to which nothing is sent.
func TestTheLiveCheck(t *testing.T) {
	var calls atomic.Int32
	handler := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { calls.Add(1) })
	plain, secure := httptest.NewServer(handler), httptest.NewUnstartedServer(handler)
	secure.TLS = &tls.Config{}
	secure.Config.ErrorLog = log.New(io.Discard, "", 0) // of handshakes that the check gives up
	secure.StartTLS()
	defer plain.Close()
	defer secure.Close()
	closed := httptest.NewServer(handler)
	closed.Close()
	f := func(yaml string, want ...string) {
		t.Helper()
		r := real(t, yaml)
		var got []string
		for _, finding := range r.dest.Test(context.Background()) {
			got = append(got, finding.Check+" "+string(finding.Level))
			if finding.Text == "" || (finding.Fix == "") != (finding.Level == destinations.FindingOK || finding.Level == destinations.FindingUnknown) {
				t.Errorf("%s: %+v", yaml, finding)
			}
		}
		if strings.Join(got, ", ") != strings.Join(want, ", ") {
			t.Errorf("%s: got %q, want %q", yaml, got, want)
		}
	}
	f("url: "+plain.URL+"\nallow_private: true\n", "signature warning", "address ok", "tls warning")
	f("url: "+strings.Replace(plain.URL, "127.0.0.1", "localhost", 1)+"\nsecret: 0123456789abcdef\n", "signature ok", "address error")
	f("url: "+closed.URL+"\nallow_private: true\n", "signature warning", "address error")
	f("url: "+secure.URL+"\nallow_private: true\n", "signature warning", "address ok", "tls error") // made by nobody that this machine trusts
	f("url: "+plain.URL+"\nallow_private: true\nproxy: http://proxy.example.com\n", "signature warning", "address unknown")
	if n := calls.Load(); n != 0 {
		t.Errorf("%d requests", n)
	}
}

// TestCertificates: what the check says of a certificate that is trusted.
func TestCertificates(t *testing.T) {
	server := httptest.NewTLSServer(http.NotFoundHandler())
	defer server.Close()
	r := real(t, "url: "+server.URL+"\nallow_private: true\n")
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	r.dest.roots = server.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	if f := r.dest.testTLS(context.Background(), conn); f.Level != destinations.FindingOK || !strings.Contains(f.Text, "TLS 1.3, certificate until 2084-01-29") {
		t.Errorf("a good certificate: %+v", f)
	}
}
