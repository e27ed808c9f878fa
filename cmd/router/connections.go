package main

import (
	"context"
	"errors"
	"net/http"
	"slices"

	"github.com/valyala/fasthttp"
	"github.com/valyala/fasthttp/fasthttpadaptor"

	"eventrouter/pkg/config"
	"eventrouter/pkg/connections"
	"eventrouter/pkg/destinations"
	"eventrouter/pkg/destinations/hubspot"
	"eventrouter/pkg/event"
	"eventrouter/pkg/ingest"
)

const (
	maxConnectBody     = 1 << 20 // HubSpot's events about an app
	maxConnectionsBody = 64 << 10
)

// newConnections reads the customers' accounts. transport is for calls about tokens; nil: the network.
func newConnections(srv *service, cfg *config.Config, transport http.RoundTripper) (*connections.Service, error) {
	return connections.New(connections.Options{
		Apps: cfg.Apps, Store: srv.store, Keys: cfg.Server.Encryption.Keys, Transport: transport,
		Append: srv.log.Append, Usage: srv.usage, Registerer: srv.registry, Logger: srv.logger,
	})
}

// usage is what destinations know of an account's hub, and what its lanes met last.
func (srv *service) usage(app, account, hub string) connections.Usage {
	apps := srv.config().Apps
	i := slices.IndexFunc(apps, func(a config.App) bool { return a.Name == app })
	if i < 0 {
		return connections.Usage{}
	}
	use := connections.Usage{QuotaLeft: hubspot.QuotaLeft(srv.parts.shared, app, apps[i].BaseURL, "", hub)}
	last := srv.router.Trouble(app, account, hub)
	use.LastError, use.Cause, use.ErrorAt = last.Words, last.Cause, last.At
	return use
}

// connectionMounts are the pages of connections: those for browsers and HubSpot, and the API for servers.
func (srv *service) connectionMounts() []ingest.Mount {
	people := srv.newPortal()
	pages := fasthttpadaptor.NewFastHTTPHandler(people.Pages(srv.connected.Handler()))
	return []ingest.Mount{
		portalMount(people),
		{Prefix: connections.PagesPath, MaxBody: maxConnectBody, Handler: pages},
		{Prefix: connections.APIPath, MaxBody: maxConnectionsBody, Handler: func(ctx *fasthttp.RequestCtx) {
			if account, ok := srv.ingest.ServerOrAdmin(ctx); ok {
				fasthttpadaptor.NewFastHTTPHandler(srv.connected.API(account))(ctx)
			}
		}},
	}
}

// noticesFor are what a destination is told of: changes of connections of the apps that name it.
func noticesFor(cfg *config.Config, destination string) (keys []string) {
	for _, a := range cfg.Apps {
		if a.Notify == destination {
			keys = append(keys, event.NoticeKey(a.Name))
		}
	}
	return keys
}

// appURL is the base URL of the API of the app whose accounts a destination delivers to; "": it has one account of its own.
func appURL(cfg *config.Config, d config.Destination) string {
	i := slices.IndexFunc(cfg.Apps, func(a config.App) bool { return a.Name == d.Connection })
	if i < 0 {
		return ""
	}
	return cfg.Apps[i].BaseURL
}

// connectionsOf are the accounts that a destination delivers to; nil: it has one of its own.
func (p parts) connectionsOf(d config.Destination) destinations.Connections {
	switch {
	case d.Connection == "":
		return nil
	case p.connections == nil:
		return noConnections{}
	}
	return p.connections.For(d.Connection)
}

// simulatedConnections are those of a simulation: all accounts are connected to one hub, with what their people have really chosen.
type simulatedConnections struct{ destinations.Connections }

func (simulatedConnections) Hub(string) string { return "1" }
func (simulatedConnections) Token(context.Context, string, string) (config.Secret, error) {
	return "simulated", nil
}
func (simulatedConnections) Refused(string, config.Secret) {}
func (simulatedConnections) Scopes(string) []string        { return nil } // a new account's are not known
func (simulatedConnections) Delivered(string)              {}

// noConnections are those of a configuration that is only checked.
type noConnections struct{}

var errNoConnections = errors.New("accounts are connected to a router that runs")

func (noConnections) Hub(string) string { return "" }
func (noConnections) Token(context.Context, string, string) (config.Secret, error) {
	return "", errNoConnections
}
func (noConnections) Refused(string, config.Secret)       {}
func (noConnections) Delivered(string)                    {}
func (noConnections) Choices(string) destinations.Choices { return destinations.Choices{} }
func (noConnections) Scopes(string) []string              { return nil }
