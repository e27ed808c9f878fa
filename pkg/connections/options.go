package connections

import (
	"fmt"
	"slices"
	"unicode/utf8"
)

// OptionError names what an account can not choose, and what it can. It wraps ErrNoOption.
type OptionError struct {
	Kind  string   // option, or app event
	Name  string   // as it was asked for, cut
	There []string // what the app has
}

// namesTold is how many names an OptionError tells of, and nameTold how many bytes of what was asked for.
const (
	namesTold = 20
	nameTold  = 64
)

func (e *OptionError) Error() string {
	there := "it has none"
	if n := len(e.There); n > 0 {
		there = fmt.Sprintf("it has %q", e.There[:min(n, namesTold)])
		if n > namesTold {
			there += fmt.Sprintf(" and %d more", n-namesTold)
		}
	}
	return fmt.Sprintf("the app has no %s %q, %s", e.Kind, e.Name, there)
}

func (e *OptionError) Unwrap() error { return ErrNoOption }

// check says what of the choices the app does not have, the first by name; nil: it has all of them.
func (ap *app) check(c Chosen) error {
	var options, events []string
	for _, o := range ap.cfg.Portal.Options {
		options = append(options, o.Name)
	}
	for _, m := range ap.cfg.AppEvents.Members() {
		events = append(events, m.Key)
	}
	for _, asked := range []struct {
		kind   string
		chosen map[string]bool
		there  []string
	}{{"option", c.Options, options}, {"app event", c.AppEvents, events}} {
		var unknown []string
		for name := range asked.chosen {
			if !slices.Contains(asked.there, name) {
				unknown = append(unknown, name)
			}
		}
		if len(unknown) > 0 {
			return &OptionError{asked.kind, cutName(slices.Min(unknown)), asked.there}
		}
	}
	return nil
}

// cutName is the beginning of a name that somebody made up.
func cutName(name string) string {
	if len(name) <= nameTold {
		return name
	}
	end := nameTold
	for !utf8.RuneStart(name[end]) {
		end--
	}
	return name[:end] + "…"
}
