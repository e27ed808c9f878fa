package jitsuconfig

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"strings"
)

// mapped is the function that does what the rules say.
//
//go:embed mapped.js
var mapped string

// script is a transform that does what the mappings did. m is effective.
func script(m mappings) string {
	if direct, ok := direct(m); ok {
		return direct
	}
	var b strings.Builder
	b.WriteString("// Made of Jitsu's mappings by router import-config, a rule a line.\n")
	fmt.Fprintf(&b, "return mapped($, {keepUnmapped: %t}, [\n", m.keep)
	for _, r := range m.rules {
		switch from := quoted(strings.Join(r.from, "||")); r.action {
		case move:
			fmt.Fprintf(&b, "  {move: %s, to: %s},\n", from, quoted(r.to))
		case drop:
			fmt.Fprintf(&b, "  {remove: %s},\n", from)
		case constant:
			fmt.Fprintf(&b, "  {set: %s, to: %s},\n", r.value, quoted(r.to))
		}
	}
	b.WriteString("]);\n\n")
	return b.String() + mapped
}

// direct is a script of the members themselves, where all paths have one name and no rule meets what another one does.
func direct(m mappings) (string, bool) {
	var taken, given []string // members that go, and what the result gets
	met := map[string]bool{}
	fresh := func(path string) (name string, ok bool) {
		all := names(path)
		if len(all) != 1 || !plainMember.MatchString(all[0]) || reserved[all[0]] || met[all[0]] {
			return "", false
		}
		met[all[0]] = m.keep
		return all[0], true
	}
	outputs := map[string]bool{}
	for _, r := range m.rules {
		var from, to string
		ok := len(r.from) < 2
		if ok && r.action != constant {
			from, ok = fresh(r.from[0])
		}
		if ok && r.action != drop {
			to, ok = fresh(r.to)
		}
		if !ok || outputs[to] || r.action == drop && !m.keep {
			return "", false
		}
		outputs[to] = to != ""
		switch {
		case r.action == constant:
			given = append(given, to+": "+r.value)
		case r.action == move && m.keep:
			given = append(given, fmt.Sprintf("...(%s !== undefined && {%s: %[1]s})", from, to))
		case r.action == move:
			given = append(given, to+": $."+from)
		}
		if r.action != constant {
			taken = append(taken, from)
		}
	}
	if len(given) == 0 && !m.keep {
		return "", false
	}
	const made = "// Made of Jitsu's mappings by router import-config.\n"
	if !m.keep {
		return made + "return {\n  " + strings.Join(given, ",\n  ") + ",\n};\n", true
	}
	rest := "..." + restName
	return made + "const {" + strings.Join(append(taken, rest), ", ") + "} = $;\nreturn {" + strings.Join(append([]string{rest}, given...), ", ") + "};\n", true
}

// restName is the variable with the members that no rule takes.
const restName = "others"

// reserved are names that a variable can not have, or that every object has.
var reserved = func() map[string]bool {
	all := map[string]bool{restName: true}
	for _, name := range strings.Fields(`arguments await break case catch class const constructor continue debugger default delete do else enum eval event export
		extends false finally for function get hasOwnProperty if implements import in instanceof interface isPrototypeOf let new null package private
		propertyIsEnumerable protected public return static super switch this throw toLocaleString toString true try typeof undefined valueOf var void
		while with yield _ console destinationId destinationType TABLE_NAME`) {
		all[name] = true
	}
	return all
}()

// quoted is text as JavaScript writes it.
func quoted(s string) string {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(s) // a string can always be encoded
	return strings.TrimSpace(b.String())
}
