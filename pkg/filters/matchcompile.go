package filters

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"eventrouter/pkg/config"
)

// Bounds of a filter without code, far above what people write.
const (
	maxConditions = 1000
	maxMatchPath  = 32 // names of a path
)

// Words that combine conditions, in place of a path.
const (
	wordAll = "all"
	wordAny = "any"
	wordNot = "not"
)

// otherWords are what people call those words elsewhere.
var otherWords = map[string]string{
	"and": "all", "all_of": "all", "allof": "all", "or": "any", "any_of": "any", "anyof": "any", "one_of": "any", "nor": "not", "none": "not", "none_of": "not", "$and": "all", "$or": "any", "$not": "not",
}

// matchCompiler makes conditions of what stands in the file and collects all that is wrong.
type matchCompiler struct {
	wantedNames
	conditions int
	programs   int // instructions of all regular expressions
	problems   config.Problems
}

func (c *matchCompiler) fail(s config.Settings, format string, args ...any) {
	c.problems = append(c.problems, s.Problem("", format, args...))
}

// all compiles a map, all conditions of which must hold.
func (c *matchCompiler) all(s config.Settings) condition {
	members := s.Members()
	switch {
	case s.Shape() != config.Map:
		c.fail(s, "must be a map of conditions, such as `event_type: signup`, not %s", shapeName(s))
	case len(members) == 0:
		c.fail(s, "has no condition")
	}
	var parts []condition
	for _, m := range members {
		parts = append(parts, c.member(m.Key, m.Value)...)
	}
	return together(parts)
}

// together is the condition that all parts hold.
func together(parts []condition) condition {
	if len(parts) == 1 {
		return parts[0]
	}
	whys := make([]string, len(parts))
	for i := range parts {
		whys[i] = said(&parts[i])
	}
	return condition{op: isAll, parts: parts, why: reason("all of (" + strings.Join(whys, "; ") + ")")}
}

// member compiles one pair of a map.
func (c *matchCompiler) member(key string, s config.Settings) []condition {
	if c.conditions++; c.conditions > maxConditions {
		if c.conditions == maxConditions+1 {
			c.fail(s, "is one condition too many: a filter has at most %d", maxConditions)
		}
		return nil
	}
	switch key {
	case wordAll, wordAny:
		return c.list(key, s)
	case wordNot:
		return c.not(s)
	}
	member, below, err := parsePath(key)
	if err != nil {
		c.fail(s, "%v", err)
		return nil
	}
	if word := otherWords[strings.ToLower(key)]; word != "" && holdsMaps(s) {
		c.fail(s, "is no known word; did you mean %q?", word)
		return nil
	}
	test := condition{member: c.place(member), below: below}
	return c.tests(key, test, s, false)
}

// list compiles what stands below all and any.
func (c *matchCompiler) list(word string, s config.Settings) []condition {
	if s.Shape() != config.List {
		c.fail(s, "must be a list of conditions, such as `%s: [{event_type: signup}, {user.plan: pro}]`, not %s", word, shapeName(s))
		return nil
	}
	if len(s.Items()) == 0 {
		c.fail(s, "is an empty list: %s", map[string]string{wordAll: "every event meets it", wordAny: "no event meets it"}[word])
		return nil
	}
	var parts []condition
	var whys []string
	for _, item := range s.Items() {
		part := c.all(item)
		parts, whys = append(parts, part), append(whys, said(&part))
	}
	if len(parts) == 1 || word == wordAll {
		return parts
	}
	return []condition{{op: isAny, parts: parts, why: reason("any of (" + strings.Join(whys, "; ") + ")")}}
}

// not compiles a negated condition. It takes one: of several, people mean now that none may hold, and now that not all of them may.
func (c *matchCompiler) not(s config.Settings) []condition {
	if s.Shape() == config.Map && len(s.Members()) > 1 || s.Shape() == config.List {
		c.fail(s, "takes one condition; write `not: {any: [{…}, {…}]}` where none of several may hold, and `not: {all: [{…}, {…}]}` where not all of them may")
		return nil
	}
	return []condition{negated(c.all(s))}
}

func negated(part condition) condition {
	return condition{op: isNot, parts: []condition{part}, why: reason("not (" + said(&part) + ")")}
}

const maxWhyBytes = 200

// reason is what Result.Why says of a condition that does not hold.
func reason(text string) string {
	if len(text) > maxWhyBytes {
		text = strings.ToValidUTF8(text[:maxWhyBytes], "") + "…"
	}
	return "filter: " + text
}

// said is the reason of a condition as part of another.
func said(c *condition) string { return strings.TrimPrefix(c.why, "filter: ") }

// parsePath reads the name of a member: names with dots between them, or after slashes, in which ~1 is a slash and ~0 a tilde.
func parsePath(path string) (member string, below []step, err error) {
	var names []string
	if pointer, ok := strings.CutPrefix(path, "/"); ok {
		names = strings.Split(pointer, "/")
		for i := range names {
			names[i] = strings.NewReplacer("~1", "/", "~0", "~").Replace(names[i])
		}
	} else {
		names = strings.Split(path, ".")
	}
	rest := strings.Join(names[1:], ".")
	switch {
	case (names[0] == "$" || names[0] == "" || names[0] == "_") && !strings.HasPrefix(path, "/") && len(names) > 1 && !slices.Contains(names[1:], ""):
		return "", nil, fmt.Errorf("a path begins with the name of a member: write %s", rest)
	case slices.Contains(names, ""):
		return "", nil, fmt.Errorf("has an empty name in its path; write user.email, or /user/email for names with dots in them")
	case len(names) > maxMatchPath:
		return "", nil, fmt.Errorf("is a path of more than %d names", maxMatchPath)
	case operators[path] != nil || path == opIgnoreCase:
		return "", nil, fmt.Errorf("is an operator, which stands below a path, as in `event_type: {%s: …}`; a member of that name is /%s", path, path)
	}
	for _, name := range names[1:] {
		s := step{name: name, index: -1}
		if i, err := strconv.Atoi(name); err == nil && strconv.Itoa(i) == name && i >= 0 {
			s.index = i
		}
		below = append(below, s)
	}
	return names[0], below, nil
}

func shapeName(s config.Settings) string {
	return [...]string{"nothing", "a single value", "a map", "a list"}[s.Shape()]
}

// holdsMaps says whether s looks like conditions, not like values.
func holdsMaps(s config.Settings) bool {
	return slices.ContainsFunc(s.Items(), func(item config.Settings) bool { return item.Shape() == config.Map })
}
