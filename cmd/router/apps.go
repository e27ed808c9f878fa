package main

import (
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"strings"

	"eventrouter/pkg/appevents"
	"eventrouter/pkg/config"
	"eventrouter/pkg/destinations"
	"eventrouter/pkg/endusers"
	"eventrouter/pkg/ingest"
	"eventrouter/pkg/proxy"
	"eventrouter/pkg/router"
)

// appEvents are the events of apps that have any.
func appEvents(apps []config.App) (sets map[string]*appevents.Set, warnings, problems config.Problems) {
	sets = map[string]*appevents.Set{}
	for _, a := range apps {
		set, w, err := appevents.New(a)
		warnings = append(warnings, w...)
		var more config.Problems
		if errors.As(err, &more) {
			problems = append(problems, more...)
			continue
		}
		sets[a.Name] = set
	}
	return sets, warnings, problems
}

// withSteps puts the steps of the app whose accounts a destination delivers to before the destination's own transform.
func (p parts) withSteps(d config.Destination, route *router.Route, was config.Destination, earlier router.Route) {
	set := p.events[d.Connection]
	if d.Connection == "" || set == nil || !set.Has() {
		return
	}
	before, ok := earlier.Transform.(*appevents.Transform)
	if ok && was.Connection == d.Connection && p.earlier.sameEvents(d.Connection, p.events) && before.Next() == appevents.Next(route.Transform) && idProperty(was) == idProperty(d) {
		route.Transform = before
		return
	}
	route.Transform = set.Transform(appevents.For{Name: d.Name, Type: d.Type, IDProperty: idProperty(d), Choices: p.choicesOf(d), Next: route.Transform})
}

// lacking warns of what accounts do not get because the app asks for too few scopes.
func lacking(cfg *config.Config, d config.Destination, made destinations.Destination) (warnings config.Problems) {
	to, ok := made.(interface {
		Lacks(scopes []string, events bool) []string
	})
	i := slices.IndexFunc(cfg.Apps, func(a config.App) bool { return a.Name == d.Connection })
	if !ok || i < 0 {
		return nil
	}
	all := d.Filter == "" && d.Match.Shape() == config.Nothing
	for _, text := range to.Lacks(slices.Concat(cfg.Apps[i].Scopes, cfg.Apps[i].OptionalScopes), all) {
		warnings = append(warnings, config.Problem{Pos: d.Settings.Pos(), Path: "destinations." + d.Name + ".connection", Text: text})
	}
	return warnings
}

// sameEvents says whether the events of an app are as they were.
func (a *assembled) sameEvents(app string, now map[string]*appevents.Set) bool {
	i := slices.IndexFunc(a.cfg.Apps, func(o config.App) bool { return o.Name == app })
	return i >= 0 && now[app].Same(a.cfg.Apps[i])
}

// ownTransform is the transform that the destination itself has, below the steps of an app.
func ownTransform(r router.Route) router.Transform {
	if steps, ok := r.Transform.(*appevents.Transform); ok {
		return steps.Next()
	}
	return r.Transform
}

// idProperty is the property that identifies the contacts of a destination.
func idProperty(d config.Destination) string {
	for _, m := range d.Settings.Members() {
		if m.Key == "id_property" {
			return m.Value.Text()
		}
	}
	return ""
}

// endUsers makes what verifies tokens for each app; before are those of an earlier configuration.
func endUsers(apps []config.App, o endusers.Options, before map[string]*endusers.Verifier) (made map[string]*endusers.Verifier, problems config.Problems) {
	made = map[string]*endusers.Verifier{}
	for _, a := range apps {
		o.Before = before[a.Name]
		v, err := endusers.New(a.Tokens, o)
		var more config.Problems
		if errors.As(err, &more) {
			problems = append(problems, more...)
			continue
		}
		made[a.Name] = v
	}
	return made, problems
}

// checkApps says what is wrong with the keys and events of apps, and with the calls that they allow.
func checkApps(apps []config.App) (warnings, problems config.Problems) {
	_, warnings, problems = appEvents(apps)
	_, more := endUsers(apps, endusers.Options{}, nil)
	for _, a := range apps {
		more = append(more, proxy.Check(a)...)
		if a.AppEvents.Shape() == config.Map && len(a.Tokens.Keys) == 0 && a.Tokens.JWKSURL == "" {
			warnings = append(warnings, config.Problem{
				Pos: a.AppEvents.Pos(), Path: a.AppEvents.Path(), Text: "no end user can post these events: there are no keys to verify tokens with (tokens.keys, tokens.key_files or tokens.jwks_url)",
			})
		}
	}
	return append(warnings, sharedKeys(apps)...), append(problems, more...)
}

// sharedKeys warns of apps whose tokens are good at each other.
func sharedKeys(apps []config.App) (warnings config.Problems) {
	for i, a := range apps {
		for _, b := range apps[:i] {
			one, other := a.Tokens, b.Tokens
			same := one.JWKSURL != "" && one.JWKSURL == other.JWKSURL || slices.ContainsFunc(one.Keys, func(k config.KeyText) bool {
				return slices.ContainsFunc(other.Keys, func(o config.KeyText) bool { return strings.TrimSpace(k.Text) == strings.TrimSpace(o.Text) })
			})
			if same && one.Audience == other.Audience && one.Issuer == other.Issuer {
				warnings = append(warnings, config.Problem{
					Pos: a.Pos, Path: "apps." + a.Name + ".tokens.audience", Text: "has the keys of app " + b.Name + " and no audience of its own: a token for one of them is good at the other, with what that allows",
				})
			}
		}
	}
	return warnings
}

// ingestApps are the apps as ingest takes their events. Nothing is wrong with cfg.
func ingestApps(cfg *config.Config, verifiers map[string]*endusers.Verifier) []ingest.App {
	sets, _, _ := appEvents(cfg.Apps)
	var apps []ingest.App
	for _, a := range cfg.Apps {
		apps = append(apps, ingest.App{Name: a.Name, Verifier: verifiers[a.Name], Events: sets[a.Name], RateLimit: a.RateLimit})
	}
	return apps
}

// endUserOptions are those of verifiers of a running router.
func endUserOptions(logger *slog.Logger, transport http.RoundTripper) endusers.Options {
	return endusers.Options{Logger: logger, Transport: transport}
}

// choicesOf are what accounts have switched off for a destination; nil: nothing.
func (p parts) choicesOf(d config.Destination) func(account string) destinations.Choices {
	connected := p.connectionsOf(d)
	if connected == nil {
		return nil
	}
	return connected.Choices
}
