package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/valyala/fasthttp"

	"eventrouter/pkg/config"
	"eventrouter/pkg/destinations"
	"eventrouter/pkg/eventscache"
	"eventrouter/pkg/router"
)

// eventsCacheMembers are those of a configuration, and where its destinations' calls go.
func eventsCacheMembers(cfg *config.Config, made []router.Route) eventscache.Members {
	var o eventscache.Members
	for _, k := range cfg.APIKeys {
		o.APIKeys = append(o.APIKeys, k.ID)
	}
	addressed := map[string]destinations.Addressed{}
	for _, route := range made {
		o.Destinations = append(o.Destinations, route.Name)
		if a, ok := route.Destination.(destinations.Addressed); ok {
			addressed[route.Name] = a
		}
	}
	o.Address = func(destination, lane string) (method, url string) {
		if a := addressed[destination]; a != nil {
			return a.Address(lane)
		}
		return "", ""
	}
	return o
}

// eventsCachePage answers GET /api/v1/events/cache as Jitsu does.
func (srv *service) eventsCachePage(ctx *fasthttp.RequestCtx) {
	args := ctx.QueryArgs()
	q := eventscache.Query{Namespace: eventscache.Namespace(args.Peek("namespace"))}
	for id := range strings.SplitSeq(string(args.Peek("ids")), ",") {
		if id = strings.TrimSpace(id); id != "" {
			q.IDs = append(q.IDs, id)
		}
	}
	switch {
	case q.Namespace == "":
		q.Namespace = eventscache.Destinations
	case q.Namespace != eventscache.Tokens && q.Namespace != eventscache.Destinations:
		refuseQuery(ctx, fmt.Sprintf("namespace query parameter can be only 'token' or 'destination'. Current value: %.100s", q.Namespace))
		return
	}
	if len(q.IDs) == 0 {
		refuseQuery(ctx, "ids is required parameter")
		return
	}
	switch status := string(args.Peek("status")); status {
	case "":
	case "error":
		q.Errors = true
	default:
		refuseQuery(ctx, "status query parameter can be only 'error'")
		return
	}
	for name, at := range map[string]*time.Time{"start": &q.Start, "end": &q.End} {
		text := string(args.Peek(name))
		if text == "" {
			continue
		}
		var err error
		if *at, err = time.Parse(time.RFC3339Nano, text); err != nil {
			refuseQuery(ctx, name+" must be a time such as 2026-11-21T12:00:00Z")
			return
		}
	}
	var ok bool
	if q.Limit, ok = limitOf(ctx); !ok {
		return
	}
	srv.answer(ctx, srv.recent.Events(q))
}
