package enrich

import (
	"fmt"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"
	"sync"

	"github.com/ua-parser/uap-go/uaparser"
	"gopkg.in/yaml.v3"
)

// patterns are uap-core's: the first of a list that matches a user agent names its program, system or device.
type patterns struct {
	programs, systems, devices []*pattern
}

// pattern is one regular expression, compiled when it is first needed: most never are.
type pattern struct {
	needles []needle // a text without any of these, in lower case, does not match; none: any text may
	reg     func() *regexp.Regexp
	parts   []string // what to make of a match: the family, then versions, or brand and model
}

// knownPatterns returns them. They are read once a process, not once a configuration: that takes some 50 ms, and nothing changes them.
var knownPatterns = sync.OnceValue(func() *patterns {
	p, err := loadPatterns()
	if err != nil {
		panic("BUG: " + err.Error()) // they are compiled in, and a test reads them
	}
	return p
})

// loadPatterns reads the definitions that the library holds.
func loadPatterns() (*patterns, error) {
	var defs struct {
		Programs []struct {
			Expr   string `yaml:"regex"`
			Family string `yaml:"family_replacement"`
			V1     string `yaml:"v1_replacement"`
			V2     string `yaml:"v2_replacement"`
			V3     string `yaml:"v3_replacement"`
		} `yaml:"user_agent_parsers"`
		Systems []struct {
			Expr   string `yaml:"regex"`
			Family string `yaml:"os_replacement"`
			V1     string `yaml:"os_v1_replacement"`
			V2     string `yaml:"os_v2_replacement"`
			V3     string `yaml:"os_v3_replacement"`
			V4     string `yaml:"os_v4_replacement"`
		} `yaml:"os_parsers"`
		Devices []struct {
			Expr   string `yaml:"regex"`
			Flags  string `yaml:"regex_flag"`
			Family string `yaml:"device_replacement"`
			Brand  string `yaml:"brand_replacement"`
			Model  string `yaml:"model_replacement"`
		} `yaml:"device_parsers"`
	}
	if err := yaml.Unmarshal(uaparser.DefinitionYaml, &defs); err != nil {
		return nil, fmt.Errorf("user agent definitions: %w", err)
	}
	var p patterns
	add := func(list *[]*pattern, expr string, parts ...string) error {
		made, err := newPattern(expr, parts)
		*list = append(*list, made)
		return err
	}
	for _, d := range defs.Programs {
		if err := add(&p.programs, d.Expr, or(d.Family, "$1"), or(d.V1, "$2"), or(d.V2, "$3"), or(d.V3, "$4")); err != nil {
			return nil, err
		}
	}
	for _, d := range defs.Systems {
		if err := add(&p.systems, d.Expr, or(d.Family, "$1"), or(d.V1, "$2"), or(d.V2, "$3"), or(d.V3, "$4"), or(d.V4, "$5")); err != nil {
			return nil, err
		}
	}
	for _, d := range defs.Devices {
		expr := d.Expr
		if d.Flags != "" {
			expr = "(?" + d.Flags + ")" + expr
		}
		if err := add(&p.devices, expr, or(d.Family, "$1"), d.Brand, or(d.Model, "$1")); err != nil {
			return nil, err
		}
	}
	return &p, nil
}

func or(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}

func newPattern(expr string, parts []string) (*pattern, error) {
	tree, err := syntax.Parse(expr, syntax.Perl)
	if err != nil {
		return nil, fmt.Errorf("user agent definitions: %w", err)
	}
	p := &pattern{parts: parts, reg: sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(expr) })}
	for _, text := range required(tree) {
		p.needles = append(p.needles, newNeedle(text))
	}
	return p, nil
}

// maxNeedles bounds the texts of one pattern: to look for more costs more than the expression itself.
const maxNeedles = 512

// common holds what user agents mostly say: to look for that would spare nothing.
const common = "mozilla/5.0 (linux; u; android 10; build/) applewebkit/537.36 (khtml, like gecko) chrome/100.0.0.0 mobile safari/537.36 version/4.0 " +
	"(iphone; cpu iphone os 17_0 like mac os x) (macintosh; intel mac os x 10_15_7) (windows nt 10.0; win64; x64; rv:109.0) gecko/20100101 firefox/ (compatible; msie 9.0;"

// required returns texts in lower case of which every match holds one at least; nil when there are none.
func required(re *syntax.Regexp) []string { return requiredInRow([]string{""}, []*syntax.Regexp{re}) }

// requiredInRow returns the best of what expressions in a row require, alone or together, behind one of the texts in run.
func requiredInRow(run []string, row []*syntax.Regexp) (best []string) {
	take := func(texts []string) {
		if !slices.Contains(texts, "") && worth(texts) > worth(best) {
			best = texts
		}
	}
	for _, re := range row {
		for re.Op == syntax.OpCapture {
			re = re.Sub[0]
		}
		texts := exact(re)
		if longer := cross(run, texts); longer != nil {
			run = longer
			continue
		}
		take(run)
		switch {
		case re.Op == syntax.OpAlternate: // mostly what stands before was taken out of its members by the parser
			take(requiredInEach(run, re.Sub))
		case re.Op == syntax.OpConcat:
			take(requiredInRow(run, re.Sub))
		case re.Op == syntax.OpPlus, re.Op == syntax.OpRepeat && re.Min > 0:
			take(required(re.Sub[0]))
		}
		run = texts
		if texts == nil {
			run = []string{""}
		}
	}
	take(run)
	return best
}

// requiredInEach returns texts of which every match of any of the alternatives holds one.
func requiredInEach(run []string, alternatives []*syntax.Regexp) (all []string) {
	for _, re := range alternatives {
		texts := requiredInRow(run, []*syntax.Regexp{re})
		if texts == nil || len(all)+len(texts) > maxNeedles {
			return nil
		}
		all = append(all, texts...)
	}
	return all
}

// exact returns all texts that an expression matches, in lower case, if they are few; else nil.
func exact(re *syntax.Regexp) []string {
	switch re.Op {
	case syntax.OpLiteral:
		return []string{strings.ToLower(string(re.Rune))}
	case syntax.OpCapture:
		return exact(re.Sub[0])
	case syntax.OpEmptyMatch, syntax.OpBeginText, syntax.OpEndText, syntax.OpBeginLine, syntax.OpEndLine, syntax.OpWordBoundary, syntax.OpNoWordBoundary:
		return []string{""}
	case syntax.OpQuest:
		if texts := exact(re.Sub[0]); texts != nil {
			return append([]string{""}, texts...)
		}
	case syntax.OpCharClass:
		return letters(re.Rune)
	case syntax.OpConcat:
		all := []string{""}
		for _, sub := range re.Sub {
			all = cross(all, exact(sub))
		}
		return all
	case syntax.OpAlternate:
		var all []string
		for _, sub := range re.Sub {
			texts := exact(sub)
			if texts == nil || len(all)+len(texts) > maxNeedles {
				return nil
			}
			all = append(all, texts...)
		}
		return all
	}
	return nil
}

// letters returns the letters of a class in lower case, if they are few. ranges are pairs: from, to.
func letters(ranges []rune) (all []string) {
	const few = 12
	for i := 0; i+1 < len(ranges); i += 2 {
		for r := ranges[i]; r <= ranges[i+1]; r++ {
			if len(all) == few {
				return nil
			}
			if text := strings.ToLower(string(r)); !slices.Contains(all, text) {
				all = append(all, text)
			}
		}
	}
	return all
}

// cross joins each of a with each of b. It returns nil if either is nil, or they are too many.
func cross(a, b []string) []string {
	if a == nil || b == nil || len(a)*len(b) > maxNeedles {
		return nil
	}
	all := make([]string, 0, len(a)*len(b))
	for _, x := range a {
		for _, y := range b {
			all = append(all, x+y)
		}
	}
	return all
}

// worth tells how much it spares to look for texts before an expression is tried: the length of the shortest that is not common.
func worth(texts []string) int {
	least := 0
	for _, text := range texts {
		n := len(text)
		if strings.Contains(common, text) {
			n = 1
		}
		if least == 0 || n < least {
			least = n
		}
	}
	return least
}

// needle is a text to look for, with a few of its letter triples: a text that lacks one of these lacks the needle.
type needle struct {
	text string
	bits [2]uint16
}

func newNeedle(text string) needle {
	n := needle{text: text}
	if len(text) >= 3 {
		n.bits = [2]uint16{triple(text, 0), triple(text, len(text)-3)}
	}
	return n
}

// haystack is a user agent to look in.
type haystack struct {
	text, lower string
	triples     [1 << 12 / 64]uint64 // set of hashes of its letter triples
}

func (h *haystack) fill(text string) {
	h.text, h.lower = text, strings.ToLower(text)
	clear(h.triples[:])
	h.triples[0] = 1 // where needles without triples look
	for i := 0; i+3 <= len(h.lower); i++ {
		t := triple(h.lower, i)
		h.triples[t/64] |= 1 << (t % 64)
	}
}

func triple(s string, i int) uint16 {
	x := uint32(s[i]) | uint32(s[i+1])<<8 | uint32(s[i+2])<<16
	return uint16(x * 0x9e3779b1 >> 20)
}

func (h *haystack) has(n *needle) bool {
	a, b := n.bits[0], n.bits[1]
	return h.triples[a/64]>>(a%64)&1 != 0 && h.triples[b/64]>>(b%64)&1 != 0 && strings.Contains(h.lower, n.text)
}

// mayMatch says whether p has to be tried.
func (h *haystack) mayMatch(p *pattern) bool {
	if len(p.needles) == 0 {
		return true
	}
	for i := range p.needles {
		if h.has(&p.needles[i]) {
			return true
		}
	}
	return false
}

// first returns what the first pattern that names a family makes of a text, and how many were tried. Beyond most tries it gives up.
func (h *haystack) first(list []*pattern, most int) (parts [5]string, tried int) {
	for _, p := range list {
		if !h.mayMatch(p) {
			continue
		}
		if tried == most {
			break
		}
		tried++
		reg := p.reg()
		at := reg.FindStringSubmatchIndex(h.text)
		if at == nil {
			continue
		}
		for i, part := range p.parts {
			if !strings.Contains(part, "$") {
				parts[i] = part
				continue
			}
			parts[i] = string(reg.ExpandString(nil, part, h.text, at))
		}
		if parts[0] != "" {
			return parts, tried
		}
	}
	return [5]string{0: "Other"}, tried
}
