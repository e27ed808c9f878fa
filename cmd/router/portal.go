package main

import (
	"errors"

	"github.com/valyala/fasthttp/fasthttpadaptor"

	"eventrouter/pkg/config"
	"eventrouter/pkg/ingest"
	"eventrouter/pkg/portal"
)

const maxPortalBody = 64 << 10

// newPortal makes the connect page.
func (srv *service) newPortal() *portal.Portal {
	return portal.New(portal.Options{App: srv.app, Verify: srv.verifyEndUser, Connections: srv.connected})
}

// portalMount are the routes that the connect page calls.
func portalMount(p *portal.Portal) ingest.Mount {
	return ingest.Mount{Prefix: portal.APIPath, MaxBody: maxPortalBody, Handler: fasthttpadaptor.NewFastHTTPHandler(p.API())}
}

// app finds an app of the configuration that is in force.
func (srv *service) app(name string) (config.App, bool) {
	for _, a := range srv.config().Apps {
		if a.Name == name {
			return a, true
		}
	}
	return config.App{}, false
}

var errNoVerifier = errors.New("there are no keys to verify tokens with")

// verifyEndUser returns the account that a token speaks for.
func (srv *service) verifyEndUser(app string, token []byte) (account string, err error) {
	v := srv.state.Load().verifiers[app]
	if v == nil {
		return "", errNoVerifier
	}
	return v.Verify(token)
}
