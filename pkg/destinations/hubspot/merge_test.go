package hubspot

import (
	"testing"

	"eventrouter/pkg/destinations/hubspot/sandbox"
)

// A semicolon adds to checkboxes only. In other properties it is text like any.
func TestTextThatBeginsWithASemicolon(t *testing.T) {
	for _, settings := range []string{"", "properties: {null: clear}\n", "properties: {write: {city: if_empty}}\n"} {
		inBubble(t, sandbox.Options{}, settings, func(t *testing.T, r *rig) {
			first := `"Rome"`
			if settings != "" {
				first = `""`
			}
			mustDeliver(t, r.run(identify(`{"email":"a@x.co","city":`+first+`}`), identify(`{"email":"a@x.co","city":";-)"}`)))
			r.want("a@x.co", map[string]string{"city": ";-)"})
		})
	}
}
