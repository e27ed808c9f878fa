package hubspot

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/tidwall/gjson"

	"eventrouter/pkg/destinations"
	"eventrouter/pkg/event"
)

const (
	// maxOptions is HubSpot's limit on the options of a property.
	maxOptions = 5000
	// maxOptionText bounds the text of an option that we make, in bytes.
	maxOptionText = 255
	// optionCheck is when a changed list of options is read again. A writer that did not see our change, because its read lagged (700 ms
	// were seen), has written over it by then, and that shows in spite of the lag.
	optionCheck = 2 * time.Second
	// optionStale is how long after the read a list may still be written.
	optionStale = 700 * time.Millisecond
	// repairFor bounds how long a list is repaired in one go. Eight writers that meet need that long at worst; then the entries are tried again.
	repairFor = 30 * time.Second
)

// newOption says whether an option can be made of the text: it stands between semicolons, and people read it.
func newOption(s string) bool {
	return s != "" && len(s) <= maxOptionText && !strings.Contains(s, ";") && !strings.ContainsFunc(s, unicode.IsControl)
}

// provideOptions makes the options that properties lack. What is not made is left out of the writes; an error is the outcome of the batch.
func (s *contactSend) provideOptions(ctx context.Context, needs []needOption) error {
	d, c := s.d, &s.d.account.creations
	some := false
	for i := range needs {
		some = some || len(d.missingOptions(&needs[i])) > 0
	}
	if !some {
		return nil
	}
	done, err := c.work(ctx, s.permits)
	if err != nil {
		return err
	}
	defer done()
	for i := range needs {
		options := d.missingOptions(&needs[i])
		if len(options) == 0 {
			continue
		}
		name := needs[i].property.name
		if err := d.addOptions(ctx, s.permits, name, options); err != nil {
			if err = d.makeError(ctx, name, err); err != nil {
				return fmt.Errorf("add options to contact property %s: %w", name, err)
			}
		}
	}
	return nil
}

// missingOptions lists what may and should be made for the need, in view of what was learned since it was noted.
func (d *Destination) missingOptions(n *needOption) (options []string) {
	c := &d.account.creations
	p := d.account.schema.get().properties[n.property.name]
	if p == nil || p.kind != kindEnum || p.external || p.readOnly || !c.may(p.name, time.Now()) {
		return nil
	}
	room := d.contacts.properties.newOptions - c.madeOptions(p.name)
	seen := valueType{kind: kindEnum}
	seen.setOptions(p.choices)
	for _, text := range n.options {
		text = strings.TrimSpace(text)
		if _, known := seen.option(text); known || !newOption(text) {
			continue
		}
		if room--; room < 0 {
			d.tellOptions(p.name, text)
			break
		}
		options = append(options, text)
		seen.setOptions(append(slices.Clone(p.choices), asOptions(options)...))
	}
	return options
}

func asOptions(texts []string) []option {
	all := make([]option, len(texts))
	for i, text := range texts {
		all[i] = option{text, text}
	}
	return all
}

func (d *Destination) tellOptions(property, text string) {
	if most := d.contacts.properties.newOptions; d.account.creations.tell("options " + property) {
		d.log.Warn("values that are no option are left out: the router has added as many options to this property as it may. To have more added, add to this destination",
			"property", property, "first", text, "added", most,
			"add", "properties: {new_options_per_property: "+strconv.Itoa(2*max(most, 100))+"}")
	}
}

// optionList is the options of a property as HubSpot writes them, members that we do not know included.
type optionList struct {
	values []string
	raw    []string
	at     time.Time // when it was last written; zero: never, by us
}

func listOptions(definition gjson.Result) (l optionList) {
	definition.Get("options").ForEach(func(_, o gjson.Result) bool {
		if o.IsObject() {
			l.add(o.Get("value").String(), o.Raw)
		}
		return true
	})
	return l
}

func (l *optionList) has(value string) bool { return slices.Contains(l.values, value) }

func (l *optionList) add(value, raw string) {
	l.values, l.raw = append(l.values, value), append(l.raw, raw)
}

// addOptions adds options to a property. HubSpot takes only whole lists, so two writers that read the same one would lose each other's options.
// In this process there is one writer at a time. Against others the list is read again some time after it was written: when it lacks
// an option of ours, or one that we have seen in it, somebody has written over it, and it is written again with all of them. So who wrote an
// option last answers for it, whosever it is; where we do not come to read a list again, the next one who adds to it answers for ours.
func (d *Destination) addOptions(ctx context.Context, ps *permits, name string, options []string) (err error) {
	unchecked := d.account.creations.unchecked
	seen := unchecked[name]
	delete(unchecked, name)
	if time.Since(seen.at) > lagMost {
		seen = optionList{}
	}
	defer func() {
		if err != nil && !seen.at.IsZero() {
			unchecked[name] = seen
		}
	}()
	var written time.Time // when it last was, by us
	began := time.Now()
	for round := 0; time.Since(began) < repairFor; round++ {
		p, definition, err := d.readProperty(ctx, ps, name)
		if err != nil {
			return err
		}
		read := time.Now()
		if p == nil || p.kind != kindEnum || p.external || p.readOnly || definition.Get("modificationMetadata.readOnlyOptions").Bool() {
			d.noOptions(name, "HubSpot does not let options be added to this property; values that are no option are left out")
			return nil
		}
		list := listOptions(definition)
		lacks := d.complete(&list, &seen, p, options)
		if lacks == 0 {
			d.optionsAdded(p, options, written)
			return nil
		}
		if len(list.raw) > maxOptions {
			d.noOptions(name, "a property has as many options as HubSpot allows; values that are no option are left out")
			return nil
		}
		seen.at = time.Now()
		a, err := d.setOptions(ctx, ps, name, &list, read.Add(time.Duration(round)*optionStale))
		if err != nil {
			return err
		}
		written = time.Now()
		switch {
		case a == nil: // waited too long for quota
			continue
		case a.status >= 300 && a.status != http.StatusConflict:
			d.makeRefused(name, a)
			return nil
		}
		// Writers that meet go on at different times, ever further apart.
		jitter := time.Duration(rand.Int64N(int64(time.Second) * int64(1+min(round, 4))))
		if err := pause(ctx, ps, optionCheck+jitter); err != nil {
			return err
		}
	}
	return destinations.RetryAfter(errors.New("options are lost again and again: another program writes them too"), lagRetry)
}

// noOptions says that no options can be added to a property, which is not tried again for a while.
func (d *Destination) noOptions(name, why string) {
	d.account.creations.refuse(name, time.Now())
	d.log.Warn(why, "property", name)
}

// setOptions writes the list that was read then. It does not when the quota let it wait too long since; a nil answer says so.
func (d *Destination) setOptions(ctx context.Context, ps *permits, name string, list *optionList, read time.Time) (*answer, error) {
	p, err := ps.next(ctx, d.account.crm)
	if err != nil {
		return nil, err
	}
	ps.first = p
	if time.Since(read) > optionStale {
		return nil, nil
	}
	return d.call(ctx, ps, request{
		endpoint: endpointSetOptions, method: http.MethodPatch, url: d.baseURL + d.paths.properties + "/" + name,
		body: []byte(`{"options":[` + strings.Join(list.raw, ",") + `]}`),
	}, append(judgements, http.StatusNotFound)...)
}

// complete adds to the list what was in it before and what is wanted, and counts how many it lacked. seen becomes the complete list.
func (d *Destination) complete(list, seen *optionList, p *property, options []string) (lacked int) {
	for i, value := range seen.values {
		if !list.has(value) {
			list.add(value, seen.raw[i])
			lacked++
		}
	}
	known := valueType{kind: kindEnum}
	known.setOptions(p.choices)
	for _, text := range options {
		if _, ok := known.option(text); !ok && !list.has(text) {
			o := option{text, text}
			list.add(text, string(o.append(nil, len(list.raw))))
			lacked++
		}
	}
	seen.values, seen.raw = slices.Clone(list.values), slices.Clone(list.raw)
	return lacked
}

// optionsAdded takes in that the property has the options; written is when we last added any of them, zero when others did.
func (d *Destination) optionsAdded(p *property, options []string, written time.Time) {
	if written.IsZero() {
		d.account.creations.succeeded(p.name, freshField{at: time.Now(), options: asOptions(options)})
	} else {
		d.account.creations.succeeded(p.name, freshField{at: written, options: asOptions(options)})
		d.account.creations.count(d.cache, d.cacheKey("made"), p.name, len(options))
		d.log.Info("added options to a contact property in HubSpot", "property", p.name, "options", len(options))
	}
	d.learnProperty(p.with(nil))
}

// append writes an option of ours; order is its place in the list.
func (o *option) append(dst []byte, order int) []byte {
	dst = append(dst, `{"label":`...)
	dst = event.AppendString(dst, o.label)
	dst = append(dst, `,"value":`...)
	dst = event.AppendString(dst, o.value)
	dst = append(dst, `,"displayOrder":`...)
	dst = strconv.AppendInt(dst, int64(order), 10)
	return append(dst, `,"hidden":false}`...)
}
