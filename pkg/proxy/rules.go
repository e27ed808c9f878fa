package proxy

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	"eventrouter/pkg/config"
)

const (
	anyMethod = "ANY"
	anyPart   = "*"  // stands for one part of a path
	anyRest   = "**" // at the end: for one part and all below it
)

// methods are those that are forwarded.
var methods = []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete}

// rule allows calls.
type rule struct {
	method   string // anyMethod: each
	segments []string
	below    bool // what is below the last of them, too, which is a *
}

// rules are what is allowed. They are read-only.
type rules []rule

// Check says what is wrong with the calls that an app allows.
func Check(app config.App) config.Problems {
	_, _, problems := compile(app)
	return problems
}

// compile makes the rules for servers and for end users; what these may do servers may do as well.
func compile(app config.App) (servers, endUsers rules, problems config.Problems) {
	servers, problems = compileList(app, "allow", app.Proxy.Allow)
	endUsers, more := compileList(app, "allow_end_users", app.Proxy.AllowEndUsers)
	return slices.Concat(servers, endUsers), endUsers, append(problems, more...)
}

// compileList makes rules of the names of presets, and of methods with paths.
func compileList(app config.App, key string, list []string) (all rules, problems config.Problems) {
	for i, text := range list {
		var problem string
		if _, path, ok := strings.Cut(text, " "); ok && path != "" {
			var r rule
			if r, problem = parseRule(text); problem == "" {
				all = append(all, r)
			}
		} else if p, known := presetOf(text); known {
			all = append(all, p.rules()...)
		} else {
			problem = fmt.Sprintf("%q is no preset: docs/accounts.md has them all", text)
			if near := config.Nearest(text, presetNames()); near != "" {
				problem = fmt.Sprintf("%q is no preset; is it %s?", text, near)
			}
		}
		if problem != "" {
			problems = append(problems, config.Problem{Pos: app.Pos, Path: fmt.Sprintf("apps.%s.proxy.%s[%d]", app.Name, key, i), Text: problem})
		}
	}
	return all, problems
}

// parseRule reads a method and a path.
func parseRule(text string) (r rule, problem string) {
	method, path, _ := strings.Cut(text, " ")
	if method != anyMethod && !slices.Contains(methods, method) {
		return r, fmt.Sprintf("%q begins with no method: GET, HEAD, POST, PUT, PATCH, DELETE or ANY", text)
	}
	r.method = method
	if !strings.HasPrefix(path, "/") {
		return r, fmt.Sprintf("%q: the path must begin with a slash", text)
	}
	r.segments = strings.Split(path[1:], "/")
	for i, s := range r.segments {
		last := i == len(r.segments)-1
		switch {
		case s == anyPart:
		case s == anyRest && last:
			r.below, r.segments[i] = true, anyPart
		case strings.Contains(s, "*"):
			return r, fmt.Sprintf("%q: a * stands for a whole part of the path, and ** only at its end, for all that is below", text)
		default:
			if problem := segmentProblem(s); problem != "" || strings.Contains(s, "%") {
				return r, fmt.Sprintf("%q: a path is written without escapes, query, and slash at its end", text)
			}
		}
	}
	if answersTokens(r.segments) {
		return r, fmt.Sprintf("%q: what answers tokens is never forwarded", text)
	}
	return r, ""
}

// mustRule is the rule for a call of a preset: a method, and what follows base.
func mustRule(call, base string) rule {
	method, behind, _ := strings.Cut(call, " ")
	r, problem := parseRule(method + " " + base + behind)
	if problem != "" {
		panic("BUG: a preset: " + problem)
	}
	return r
}

// matches says whether the rule allows a call.
func (r *rule) matches(method string, segments []string) bool {
	if r.method != anyMethod && r.method != method && !(method == http.MethodHead && r.method == http.MethodGet) {
		return false
	}
	if len(segments) < len(r.segments) || len(segments) > len(r.segments) && !r.below {
		return false
	}
	for i, want := range r.segments {
		if want != anyPart && want != segments[i] {
			return false
		}
	}
	return true
}

// find returns the rule that allows a call.
func (rs rules) find(method string, segments []string) (rule, bool) {
	for i := range rs {
		if rs[i].matches(method, segments) {
			return rs[i], true
		}
	}
	return rule{}, false
}

// suggest says what to add to a list so that a call would be allowed.
func suggest(app, list, method string, segments []string) string {
	if method == http.MethodHead {
		method = http.MethodGet
	}
	path := ""
	for i, s := range segments {
		if i > 0 && (!isName(s) || strings.Trim(s, "0123456789") == "" || s != strings.ToLower(s)) { // an id
			s = anyPart
		}
		path += "/" + s
	}
	added := fmt.Sprintf("%q", method+" "+path)
	for _, p := range presets {
		if _, ok := p.rules().find(method, segments); ok {
			added = "the preset " + p.name + ", or " + added
			break
		}
	}
	return fmt.Sprintf("to allow it, add %s to apps.%s.proxy.%s in the router's configuration", added, app, list)
}
