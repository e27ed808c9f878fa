package proxy

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/valyala/fasthttp"

	"eventrouter/pkg/config"
	"eventrouter/pkg/destinations/hubspot/sandbox"
)

// BenchmarkCall compares a call through the proxy with one that is made directly, over loopback. The difference is what the proxy costs: a connection more, and its checks.
func BenchmarkCall(b *testing.B) {
	answer := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"results":[{"id":"1","properties":{"email":"a@b.co"}}]}`))
	})
	remote := httptest.NewServer(answer)
	defer remote.Close()
	r := newRig(b, contactPresets, func(r *rig, o *sandbox.Options) { o.AppBurst = -1 })
	direct := newTransport()
	r.app.BaseURL = remote.URL
	r.proxy.opts.Transport = direct
	if err := r.proxy.SetApps([]App{{Config: r.app, Deliveries: true}}); err != nil { // a window that learns that there is no limit
		b.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	srv := &fasthttp.Server{Handler: r.front.Handler, StreamRequestBody: true}
	go srv.Serve(ln)
	defer srv.Shutdown()
	run := func(name, address string, header http.Header) {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				req, _ := http.NewRequest(http.MethodGet, address, nil)
				req.Header = header
				res, err := direct.RoundTrip(req)
				if err != nil {
					b.Fatal(err)
				}
				if res.StatusCode != http.StatusOK {
					b.Fatal(res.Status)
				}
				_, _ = io.Copy(io.Discard, res.Body) // of loopback
				res.Body.Close()
			}
		})
	}
	run("direct", remote.URL+contactsPath, http.Header{"Authorization": {"Bearer " + string(config.Secret("x"))}})
	run("proxy", "http://"+ln.Addr().String()+"/api/v1/proxy/crm"+contactsPath, http.Header{"Authorization": {"Bearer " + serverSecret}, "X-Account": {"a1"}})
}
