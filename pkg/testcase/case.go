package testcase

import (
	"fmt"
	"path"
	"regexp"
	"strings"
	"unicode/utf8"

	"eventrouter/pkg/config"
)

// Names of sections.
const (
	eventsName       = "events.jsonl"
	configName       = "config.yaml"
	envName          = "env"
	destinationsName = "destinations"
	wantPrefix       = "want/"
	wantSuffix       = ".txt"
	schemaPrefix     = "schema/"
	schemaSuffix     = ".json"
)

// maxBytes bounds a file: a case is written by hand, and what is larger is another kind of file.
const maxBytes = 16 << 20

// Case is one file.
type Case struct {
	// Path is the file's, for messages.
	Path string
	// Comment is what stands before the first section.
	Comment string
	// Events go in, in this order; at least one.
	Events []Event
	// Config is the configuration; nil: another file has it.
	Config *Section
	// Env are the variables of the configuration.
	Env map[string]string
	// Destinations are the names of those that the case is about; nil: all.
	Destinations []string
	// Schemas are what is known of remote accounts, by destination.
	Schemas map[string]*Section
	// Files are further sections, which the configuration may name, by their names.
	Files map[string]*Section

	wants map[string]*Section // by destination
	data  []byte
	all   []Section
}

// Want returns what the case expects of a destination, with lines that end as they do on Unix, and the line where that stands. False: it does not say.
func (c *Case) Want(destination string) (text string, line int, ok bool) {
	s, ok := c.wants[destination]
	if !ok {
		return "", 0, false
	}
	return wholeLines(plainLines(s.Text)), s.Line, true
}

// Wanted returns the destinations that the case expects something of, in the order of the file.
func (c *Case) Wanted() []string {
	var names []string
	for i := range c.all {
		if name, ok := between(c.all[i].Name, wantPrefix, wantSuffix); ok {
			names = append(names, name)
		}
	}
	return names
}

// destinationName is what config takes for the name of a destination.
var destinationName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// Parse reads a case. Everything that is wrong with it is in one [config.Problems]. The case keeps data, which nobody may change then.
func Parse(file string, data []byte) (*Case, error) {
	c := &Case{
		Path: file, data: data, all: sections(data), Env: map[string]string{}, Schemas: map[string]*Section{}, Files: map[string]*Section{},
		wants: map[string]*Section{},
	}
	p := problems{file: file}
	if line := badText(data); line > 0 || len(data) > maxBytes {
		p.add(line, "is no case: it must be text in UTF-8 of at most %d MiB", maxBytes>>20)
		return nil, p.list.Err()
	}
	if len(c.all) == 0 {
		p.add(1, "is no case: it has no section, such as one that begins with the line `-- %s --`", eventsName)
		return nil, p.list.Err()
	}
	c.Comment = strings.TrimSpace(plainLines(data[:c.all[0].marker]))
	first := map[string]int{}
	for i := range c.all {
		s := &c.all[i]
		if line, twice := first[s.Name]; twice {
			p.add(s.Line-1, "section %s stands here for the second time, first on line %d", s.Name, line)
			continue
		}
		first[s.Name] = s.Line - 1
		c.take(s, &p)
	}
	if first[eventsName] == 0 {
		p.add(1, "has no events: it needs a section that begins with the line `-- %s --`", eventsName)
	} else if len(c.Events) == 0 && len(p.list) == 0 {
		p.add(first[eventsName], "section %s has no events", eventsName)
	}
	if err := p.list.Sorted().Err(); err != nil {
		return nil, err
	}
	return c, nil
}

// badText is the line of the first byte that is no text; 0: all is.
func badText(data []byte) int {
	line := 1
	for i := 0; i < len(data); {
		r, size := utf8.DecodeRune(data[i:])
		if r == utf8.RuneError && size == 1 || r == 0 {
			return line
		}
		if r == '\n' {
			line++
		}
		i += size
	}
	return 0
}

// take puts a section in its place.
func (c *Case) take(s *Section, p *problems) {
	switch s.Name {
	case eventsName:
		c.Events = parseEvents(s, p)
		return
	case configName:
		c.Config = s
		return
	case envName:
		c.Env = parseEnv(s, p)
		return
	case destinationsName:
		c.Destinations = parseNames(s, p)
		return
	}
	for _, of := range [...]struct {
		prefix, suffix string
		into           map[string]*Section
	}{{wantPrefix, wantSuffix, c.wants}, {schemaPrefix, schemaSuffix, c.Schemas}} {
		if !strings.HasPrefix(s.Name, of.prefix) {
			continue
		}
		name, ok := between(s.Name, of.prefix, of.suffix)
		if !ok || !destinationName.MatchString(name) {
			p.add(s.Line-1, "section %s must be called %sNAME%s, after a destination", s.Name, of.prefix, of.suffix)
			return
		}
		of.into[name] = s
		return
	}
	if s.Name != path.Clean(s.Name) || path.IsAbs(s.Name) || strings.HasPrefix(s.Name, "../") || strings.Contains(s.Name, `\`) {
		p.add(s.Line-1, "section %s must be the name of a file beside the configuration, such as pipelines/crm.js", s.Name)
		return
	}
	c.Files[s.Name] = s
}

func between(s, prefix, suffix string) (string, bool) {
	s, begins := strings.CutPrefix(s, prefix)
	s, ends := strings.CutSuffix(s, suffix)
	return s, begins && ends
}

// parseEnv reads lines NAME=value.
func parseEnv(s *Section, p *problems) map[string]string {
	env := map[string]string{}
	for line, text := range s.lines() {
		name, value, ok := strings.Cut(text, "=")
		if name = strings.TrimSpace(name); !ok || name == "" || strings.ContainsAny(name, " \t") {
			p.add(line, "a line of section %s is NAME=value", s.Name)
			continue
		}
		env[name] = strings.TrimSpace(value)
	}
	return env
}

// parseNames reads one name a line.
func parseNames(s *Section, p *problems) []string {
	names := []string{}
	for line, text := range s.lines() {
		if !destinationName.MatchString(text) {
			p.add(line, "a line of section %s is the name of a destination", s.Name)
			continue
		}
		names = append(names, text)
	}
	if len(names) == 0 && len(p.list) == 0 {
		p.add(s.Line-1, "section %s names no destination; leave it out for all of them", s.Name)
	}
	return names
}

// lines yields the number and the text of each line that is neither empty nor a comment.
func (s *Section) lines() func(yield func(int, string) bool) {
	return func(yield func(int, string) bool) {
		line := s.Line - 1
		for text := range strings.Lines(string(s.Text)) {
			line++
			if text = strings.TrimSpace(text); text != "" && !isComment(text) && !yield(line, text) {
				return
			}
		}
	}
}

func isComment(line string) bool {
	return strings.HasPrefix(line, "#") || strings.HasPrefix(line, "//")
}

// problems collects what is wrong with a file.
type problems struct {
	file string
	list config.Problems
}

func (p *problems) add(line int, format string, args ...any) {
	p.list = append(p.list, config.Problem{Pos: config.Pos{File: p.file, Line: line}, Text: fmt.Sprintf(format, args...)})
}
