package main

import (
	"net/http"
	"slices"

	"github.com/valyala/fasthttp"

	"eventrouter/pkg/config"
	"eventrouter/pkg/endusers"
	"eventrouter/pkg/ingest"
	"eventrouter/pkg/proxy"
)

// newProxy makes what forwards calls to customers' accounts. transport is for the calls; nil: the network.
func newProxy(srv *service, cfg *config.Config, verifiers map[string]*endusers.Verifier, transport http.RoundTripper) (*proxy.Proxy, error) {
	return proxy.New(proxy.Options{
		Apps:        proxyApps(cfg, verifiers),
		Connections: func(app string) proxy.Connections { return srv.connected.For(app) },
		Shared:      srv.parts.shared, Cache: srv.parts.cache, Transport: transport, Registerer: srv.registry, Logger: srv.logger,
		ServerKey: func(ctx *fasthttp.RequestCtx) (id, account string, ok bool) { return srv.ingest.ServerKey(ctx) },
	})
}

// proxyApps are the apps as the proxy takes them.
func proxyApps(cfg *config.Config, verifiers map[string]*endusers.Verifier) []proxy.App {
	var apps []proxy.App
	for _, a := range cfg.Apps {
		used := slices.ContainsFunc(cfg.Destinations, func(d config.Destination) bool { return d.Connection == a.Name && !d.Staged })
		apps = append(apps, proxy.App{Config: a, Verifier: verifiers[a.Name], Deliveries: used})
	}
	return apps
}

// mounts are the parts of the server that other packages answer.
func (srv *service) mounts() []ingest.Mount {
	return append(srv.connectionMounts(), ingest.Mount{Prefix: proxy.Path, Admit: srv.proxy.Admit, Unread: srv.proxy.Unread, Handler: srv.proxy.Handle})
}
