package enrich

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/tidwall/gjson"

	"eventrouter/pkg/config"
	"eventrouter/pkg/event"
)

// What a rule does, by Jitsu's names.
const (
	ipLookup       = "ip_lookup"
	userAgentParse = "user_agent_parse"
)

// Rules are those of one destination: what they write is the event's own data, for this destination alone. They may be used from many goroutines.
type Rules struct {
	rules  []rule
	geo    *Geo
	agents *agents
}

type rule struct {
	name     string
	from, to path
}

// Rules checks the rules that stand at place in the configuration, such as destinations.crm.enrichment. Nil stands for no rules; warnings tell of rules that can
// find nothing. The error is a [config.Problems].
func (e *Enricher) Rules(list []config.Enrichment, place string) (rules *Rules, warnings config.Problems, err error) {
	if len(list) == 0 {
		return nil, nil, nil
	}
	if e == nil {
		e = New(Options{})
	}
	rules = &Rules{geo: e.opts.Geo, agents: e.agents}
	var problems config.Problems
	for i, c := range list {
		at := func(key, format string, args ...any) config.Problem {
			return config.Problem{Pos: c.Pos, Path: fmt.Sprintf("%s[%d].%s", place, i, key), Text: fmt.Sprintf(format, args...)}
		}
		r := rule{name: c.Name}
		switch {
		case c.Name != ipLookup && c.Name != userAgentParse:
			problems = append(problems, at("name", "must be %s or %s, not %q", ipLookup, userAgentParse, c.Name))
		case c.Name == ipLookup && e.opts.Geo == nil:
			warnings = append(warnings, at("name", "finds nothing: there are no databases; name them in geo.maxmind_path"))
		}
		if r.from, err = parsePath(c.From); err != nil {
			problems = append(problems, at("from", "%v", err))
		} else if slices.ContainsFunc(r.from, func(names []string) bool { return len(names) == 0 }) {
			problems = append(problems, at("from", "must name a member, such as /source_ip; %q is the whole event", c.From))
		}
		if r.to, err = parsePath(c.To); err != nil {
			problems = append(problems, at("to", "%v", err))
		}
		rules.rules = append(rules.rules, r)
	}
	return rules, warnings, problems.Err()
}

// Apply returns ev with what the rules find written into its JSON: a copy, or ev itself if that is nothing. No rules may be nil.
func (rs *Rules) Apply(ev *event.Event) *event.Event {
	if rs == nil {
		return ev
	}
	result := ev
	for i := range rs.rules {
		r := &rs.rules[i]
		root := gjson.ParseBytes(result.JSON)
		found := rs.look(r, r.source(root, ev))
		if found == "" {
			continue
		}
		if result == ev {
			changed := *ev
			result = &changed
		}
		dst := make([]byte, 0, len(result.JSON)+len(found)+64)
		result.JSON = appendWith(dst, root, r.to.target(root), gjson.Parse(found))
	}
	return result
}

// source is the text that a rule starts from: the client's own, or else what the router knows under this name.
func (r *rule) source(root gjson.Result, ev *event.Event) string {
	for _, names := range r.from {
		if v := find(root, names); v.Type == gjson.String && strings.TrimSpace(v.Str) != "" {
			return strings.TrimSpace(v.Str)
		}
	}
	for _, names := range r.from {
		if len(names) == 2 && names[0] == "eventn_ctx" {
			names = names[1:]
		}
		switch {
		case len(names) == 1 && names[0] == event.FieldSourceIP:
			return ev.SourceIP
		case len(names) == 1 && names[0] == event.FieldUserAgent:
			return ev.UserAgent
		}
	}
	return ""
}

// look returns a JSON object, "" if nothing is known.
func (rs *Rules) look(r *rule, source string) string {
	if r.name == userAgentParse {
		return rs.agents.parse(source).json
	}
	addr, err := netip.ParseAddr(source)
	if err != nil {
		return ""
	}
	return rs.geo.Location(addr)
}
