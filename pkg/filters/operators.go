package filters

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"

	"eventrouter/pkg/config"
	"eventrouter/pkg/event"
)

// test is a condition on the value of one member while it is compiled.
type test struct {
	c        *matchCompiler
	path     string
	criteria criteria
	phrases  []string // what its operators say, for Result.Why
	exists   string   // true, false or "": it has no such operator
	negated  []config.Settings
}

const opIgnoreCase = "ignore_case" // which the other operators must know beforehand

// operators are the words that stand below a path, each with what takes it in.
var operators = map[string]func(*test, config.Settings){
	"equals": (*test).equals, "in": (*test).in, "not": (*test).not, "exists": (*test).existing,
	"starts_with": texts("starts with", func(t *test) *[]string { return &t.criteria.begins }),
	"ends_with":   texts("ends with", func(t *test) *[]string { return &t.criteria.ends }),
	"contains":    texts("contains", func(t *test) *[]string { return &t.criteria.inside }),
	"matches":     (*test).matches,
	"gt":          bounds("gt", ">"), "gte": bounds("gte", ">="), "lt": bounds("lt", "<"), "lte": bounds("lte", "<="),
}

// otherOperators are what people call operators elsewhere.
var otherOperators = map[string]string{
	"eq": "equals", "is": "equals", "=": "equals", "==": "equals", "ne": "not", "neq": "not", "not_equals": "not", "!=": "not", "not_in": "not", "any": "in", "one_of": "in",
	"prefix": "starts_with", "begins_with": "starts_with", "startswith": "starts_with", "suffix": "ends_with", "endswith": "ends_with", "includes": "contains",
	"regex": "matches", "regexp": "matches", "like": "matches", "match": "matches", "present": "exists", "missing": "exists",
	">": "gt", ">=": "gte", "<": "lt", "<=": "lte", "ge": "gte", "le": "lte", "min": "gte", "max": "lte", "after": "gte", "before": "lt", "case_insensitive": opIgnoreCase,
}

// tests compiles what stands below a path: a value, a list of values, or operators. base is a condition with that path and no criteria; ignoreCase is what holds without the
// operator of that name.
func (c *matchCompiler) tests(path string, base condition, s config.Settings, ignoreCase bool) []condition {
	t := &test{c: c, path: path, criteria: criteria{fold: ignoreCase}}
	before := len(c.problems)
	switch s.Shape() {
	case config.Nothing:
		c.fail(s, "has no value; write `{exists: false}` for what an event lacks, and \"\" for an empty text")
	case config.Map:
		t.operators(s)
	default:
		t.equals(s)
	}
	if len(c.problems) == before {
		t.check(s)
	}
	if len(c.problems) > before {
		return nil
	}
	return t.made(base)
}

// made returns the conditions that the operators come to.
func (t *test) made(base condition) (made []condition) {
	path := t.path
	if len(t.phrases) > 0 {
		base.test, base.why = &t.criteria, reason(path+" "+strings.Join(t.phrases, " and "))
		made = append(made, base)
	}
	switch {
	case t.exists == "false":
		base.test, base.why = nil, reason(path+" exists")
		missing := negated(base)
		missing.why = reason(path + " does not exist")
		made = append(made, missing)
	case t.exists == "true" && len(made) == 0:
		base.test, base.why = nil, reason(path+" exists")
		made = append(made, base)
	}
	for _, n := range t.negated {
		base.test, base.why = nil, ""
		if parts := t.c.tests(path, base, n, t.criteria.fold); len(parts) > 0 {
			made = append(made, negated(together(parts)))
		}
	}
	return made
}

func (t *test) fail(s config.Settings, format string, args ...any) { t.c.fail(s, format, args...) }

// operators takes in a map of operators.
func (t *test) operators(s config.Settings) {
	members := s.Members()
	for _, m := range members {
		if m.Key == opIgnoreCase {
			t.criteria.fold = t.flag(m.Value) == "true"
		}
	}
	for _, m := range members {
		if operator := operators[m.Key]; operator != nil {
			operator(t, m.Value)
		} else if m.Key != opIgnoreCase {
			t.unknown(m)
		}
	}
}

func (t *test) unknown(m config.Member) {
	known := append(slices.Sorted(maps.Keys(operators)), opIgnoreCase)
	near := otherOperators[strings.ToLower(m.Key)]
	if near == "" {
		near = config.Nearest(m.Key, known)
	}
	if near != "" {
		t.fail(m.Value, "unknown operator %q; did you mean %q?", m.Key, near)
		return
	}
	t.fail(m.Value, "unknown operator %q; the operators are %s; a member of %s is %s.%s", m.Key, strings.Join(known, ", "), t.path, t.path, m.Key)
}

// check finds what can not hold.
func (t *test) check(s config.Settings) {
	c := &t.criteria
	switch {
	case t.exists == "false" && (len(t.phrases) > 0 || len(t.negated) > 0):
		t.fail(s, "what does not exist can meet no other operator: keep one of them")
	case c.fold && c.values == nil && c.begins == nil && c.ends == nil && c.inside == nil && c.patterns == nil && len(t.negated) == 0:
		t.fail(s, "ignore_case has no text to apply to")
	case t.exists == "" && len(t.phrases) == 0 && len(t.negated) == 0:
		t.fail(s, "has no condition")
	case !t.boundsHold():
		t.fail(s, "no value lies within these bounds")
	case c.values != nil && len(t.phrases) > 1 && !slices.ContainsFunc(c.values, t.meetsItself):
		t.fail(s, "none of the values meets the other operators")
	}
}

// meetsItself says whether a value that is asked for meets the other operators.
func (t *test) meetsItself(value string) bool {
	met, err := t.criteria.meets(string(event.AppendString(nil, value)))
	if _, isNumber := parseDecimal(value); isNumber && !met && err == nil {
		met, err = t.criteria.meets(value)
	}
	return met || err != nil
}

func (t *test) boundsHold() bool {
	for _, low := range t.criteria.edges {
		for _, high := range t.criteria.edges {
			if low.op[0] != 'g' || high.op[0] != 'l' {
				continue
			}
			order := low.number.compare(high.number)
			if !low.time.IsZero() {
				order = low.time.Compare(high.time)
			}
			if low.time.IsZero() != high.time.IsZero() || order > 0 || order == 0 && (low.op == "gt" || high.op == "lt") {
				return false
			}
		}
	}
	return true
}

// single takes in one value; false: there is none.
func (t *test) single(s config.Settings) (string, bool) {
	switch s.Shape() {
	case config.Single:
		return s.Text(), true
	case config.Nothing:
		t.fail(s, `has no value; write "" for an empty text`)
	default:
		t.fail(s, "must be a single value, not %s", shapeName(s))
	}
	return "", false
}

// list takes in one value or several.
func (t *test) list(s config.Settings) []string {
	if s.Shape() != config.List {
		if text, ok := t.single(s); ok {
			return []string{text}
		}
		return nil
	}
	if len(s.Items()) == 0 {
		t.fail(s, "is an empty list, which nothing meets")
	}
	var all []string
	for _, item := range s.Items() {
		if text, ok := t.single(item); ok {
			all = append(all, text)
		}
	}
	return all
}

func (t *test) flag(s config.Settings) string {
	var on bool
	if _, ok := t.single(s); !ok {
		return ""
	}
	if err := s.Decode(&on); err != nil {
		t.fail(s, "must be true or false")
		return ""
	}
	return fmt.Sprint(on)
}

func (t *test) folded(all []string) []string {
	if t.criteria.fold {
		for i := range all {
			all[i] = fold(all[i])
		}
	}
	return all
}

// say notes what an operator says, for people.
func (t *test) say(words string, values []string) {
	const most = 3
	shown := make([]string, 0, most+1)
	for _, v := range values[:min(len(values), most)] {
		if _, isNumber := parseDecimal(v); !isNumber && v != "true" && v != "false" {
			v = fmt.Sprintf("%q", v)
		}
		shown = append(shown, v)
	}
	if n := len(values) - most; n > 0 {
		shown = append(shown, fmt.Sprintf("one of %d others", n))
	}
	phrase := words + " " + strings.Join(shown, " or ")
	if t.criteria.fold {
		phrase += " in any case"
	}
	t.phrases = append(t.phrases, phrase)
}

func (t *test) equals(s config.Settings) {
	if t.criteria.values != nil {
		t.fail(s, "equals and in stand side by side: keep one of them")
		return
	}
	all := t.list(s)
	if len(all) == 0 {
		return
	}
	t.say("is", all)
	all = t.folded(all)
	t.criteria.values = all
	for _, v := range slices.Clone(all) {
		if word := strings.ToLower(v); word != v && (word == "true" || word == "false") { // as YAML has it
			t.criteria.values = append(t.criteria.values, word)
		}
		if d, ok := parseDecimal(v); ok {
			t.criteria.numbers = append(t.criteria.numbers, d)
		}
	}
	if len(t.criteria.values) >= manyValues {
		t.criteria.many = set(t.criteria.values...)
	}
}

func (t *test) in(s config.Settings) {
	if s.Shape() != config.List {
		t.fail(s, "must be a list of values, not %s", shapeName(s))
		return
	}
	t.equals(s)
}

func (t *test) not(s config.Settings) { t.negated = append(t.negated, s) }

func (t *test) existing(s config.Settings) { t.exists = t.flag(s) }

// texts is an operator that compares with texts.
func texts(words string, of func(*test) *[]string) func(*test, config.Settings) {
	return func(t *test, s config.Settings) {
		all := t.list(s)
		if len(all) == 0 {
			return
		}
		if slices.Contains(all, "") {
			t.fail(s, "is an empty text, which every text %s; write `{exists: true}` for any value", words)
		}
		t.say(words, all)
		*of(t) = t.folded(all)
	}
}

// bounds is an operator for numbers and times.
func bounds(op, sign string) func(*test, config.Settings) {
	return func(t *test, s config.Settings) {
		text, ok := t.single(s)
		if !ok {
			return
		}
		b := edge{op: op}
		if b.number, ok = parseDecimal(text); !ok {
			at, day, isDate := parseDate(text, false)
			if !isDate {
				t.fail(s, "must be a number, such as 100 or -0.5, or a date, such as 2026-03-01 or 2026-03-01T12:00:00Z")
				return
			}
			if day && (op == "gt" || op == "lte") { // a day ends with its last moment
				at = at.AddDate(0, 0, 1)
				b.op = map[string]string{"gt": "gte", "lte": "lt"}[op]
			}
			b.time = at
		} else if t.path == event.FieldTimestamp {
			t.fail(s, "is a number, and %s is a date: write one, such as 2026-03-01", event.FieldTimestamp)
			return
		}
		t.criteria.edges = append(t.criteria.edges, b)
		t.phrases = append(t.phrases, sign+" "+text)
	}
}

// Bounds of regular expressions. Together with maxMatchBytes they keep the worst of them to a fraction of a second.
const (
	maxPatternBytes = 1000
	maxProgram      = 2000 // instructions of all of a filter's
)

func (t *test) matches(s config.Settings) {
	all := t.list(s)
	for _, source := range all {
		pattern, err := t.pattern(source)
		if err != nil {
			t.fail(s, "%v", err)
			continue
		}
		t.criteria.patterns = append(t.criteria.patterns, pattern)
	}
	if len(all) > 0 {
		t.criteria.textLimit = limitOf(t.path)
		t.say("matches", all)
	}
}

func (t *test) pattern(source string) (*regexp.Regexp, error) {
	if len(source) > maxPatternBytes {
		return nil, fmt.Errorf("is longer than the %d bytes that a regular expression may have", maxPatternBytes)
	}
	if t.criteria.fold {
		source = "(?i:" + source + ")"
	}
	parsed, err := syntax.Parse(source, syntax.Perl)
	if err != nil {
		var e *syntax.Error
		fix := ""
		if errors.As(err, &e) && e.Code == syntax.ErrInvalidPerlOp {
			fix = "; there is no looking ahead or behind: combine conditions with `not` and `any`"
		}
		return nil, fmt.Errorf("is no regular expression: %s%s", strings.TrimPrefix(err.Error(), "error parsing regexp: "), fix)
	}
	program, err := syntax.Compile(parsed.Simplify())
	if err != nil {
		return nil, err
	}
	if t.c.programs += len(program.Inst); t.c.programs > maxProgram {
		return nil, errors.New("is too large: repeat less, or use fewer regular expressions in this filter")
	}
	pattern, err := regexp.Compile(source)
	if err == nil && pattern.MatchString("") && !asserts(parsed) {
		return nil, errors.New("matches every text; write `{exists: true}` for any value")
	}
	return pattern, err
}

// asserts says whether an expression asks where in the text it is.
func asserts(re *syntax.Regexp) bool {
	switch re.Op {
	case syntax.OpBeginLine, syntax.OpEndLine, syntax.OpBeginText, syntax.OpEndText, syntax.OpWordBoundary, syntax.OpNoWordBoundary:
		return true
	}
	return slices.ContainsFunc(re.Sub, asserts)
}
