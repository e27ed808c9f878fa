package hubspot

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/tidwall/gjson"

	"eventrouter/pkg/destinations"
)

// maxDefinitions is HubSpot's limit on event definitions of an account.
const maxDefinitions = 500

// maxListed is how many names a finding lists.
const maxListed = 20

// properties checks what the settings name against the account's properties.
func (c *liveCheck) properties(ctx context.Context, seen schemaSeen) {
	if seen.status == http.StatusForbidden { // its scope was reported
		return
	}
	account, err := parseSchema(seen.body, time.Now())
	if err != nil {
		words := err.Error()
		if seen.words != "" {
			words = seen.words
		}
		c.add(checkProperties, destinations.FindingError, "the contact properties can not be read: "+words, "check base_url and api_version")
		return
	}
	before := len(c.findings)
	c.key(account)
	ps := c.d.contacts.properties
	wanted := map[string]string{} // name: the setting that names it
	for name := range ps.except {
		wanted[name] = "except"
	}
	for name := range ps.only {
		wanted[name] = "only"
	}
	for _, name := range c.d.contacts.expressions.names {
		wanted[name] = "map"
	}
	for name := range ps.policies {
		wanted[name] = "write"
	}
	var toMake []string
	for _, name := range slices.Sorted(maps.Keys(wanted)) {
		p := account.properties[name]
		switch {
		case p == nil && ps.create && wanted[name] != "except":
			toMake = append(toMake, name)
		case p == nil:
			c.absent(account, name, wanted[name])
		case wanted[name] != "except":
			c.writable(p, wanted[name], ps.policyOf(name))
		}
	}
	if len(toMake) > 0 {
		c.add(checkProperties, destinations.FindingOK, "will be made when a value for them comes: "+listed(toMake), "")
		c.group(ctx)
	}
	if len(c.findings) == before {
		text := fmt.Sprintf("the account has %d contact properties", len(account.properties))
		if len(wanted) > 0 {
			text += ", among them all that the configuration names"
		}
		c.add(checkProperties, destinations.FindingOK, text, "")
	}
}

// key checks the property that identifies contacts.
func (c *liveCheck) key(account *schema) {
	name := c.d.contacts.key
	if name == emailProperty || name == objectIDProperty {
		return
	}
	switch p := account.properties[name]; {
	case p == nil:
		c.add(checkProperties, destinations.FindingError, "id_property: the account has no contact property "+name+", so no contact can be found"+similar(account, name),
			"make it in HubSpot with \"require unique values\" switched on, or set id_property: email")
	case !p.unique:
		c.add(checkProperties, destinations.FindingError, "id_property: the values of "+name+" are not unique in the account, so HubSpot finds no contact by it",
			"a property gets unique values only when it is made: make another one in HubSpot with \"require unique values\" switched on and name it in id_property")
	}
}

// absent reports a property that the account lacks.
func (c *liveCheck) absent(account *schema, name, setting string) {
	text := fmt.Sprintf("properties.%s: the account has no contact property %s%s", setting, name, similar(account, name))
	if setting == "except" {
		c.add(checkProperties, destinations.FindingWarning, text, "correct the name, or remove it")
		return
	}
	c.add(checkProperties, destinations.FindingWarning, text+"; values for it are left out", "correct the name, make the property in HubSpot, or set properties.unknown: create")
}

// similar suggests a property that differs in underscores alone.
func similar(account *schema, name string) string {
	bare := strings.ReplaceAll(name, "_", "")
	for _, other := range slices.Sorted(maps.Keys(account.properties)) {
		if strings.ReplaceAll(strings.ToLower(other), "_", "") == bare {
			return " (it has " + other + ")"
		}
	}
	return ""
}

// writable checks a property that exists against what is to be done with it.
func (c *liveCheck) writable(p *property, setting string, policy policy) {
	switch {
	case p.readOnly:
		c.add(checkProperties, destinations.FindingWarning, fmt.Sprintf("properties.%s: %s is a property that HubSpot fills itself; it can not be written", setting, p.name),
			"remove it, or name another property")
	case policy == appendTo && !p.multi:
		kind := p.typeName
		if p.kind == kindEnum {
			kind = "choice of one option"
		}
		c.add(checkProperties, destinations.FindingWarning,
			fmt.Sprintf("properties.write: append adds to multiple checkboxes, but %s is a %s", p.name, shorten(kind)),
			"make it a property of the field type \"multiple checkboxes\", or write overwrite")
	}
}

// group checks that the group for new properties exists.
func (c *liveCheck) group(ctx context.Context) {
	group := c.d.contacts.properties.group
	a := c.call(ctx, request{endpoint: endpointGroups, method: http.MethodGet, url: c.d.baseURL + c.d.paths.properties + "/groups"})
	if a == nil || a.status != http.StatusOK {
		return
	}
	found := false
	gjson.GetBytes(a.body, "results").ForEach(func(_, g gjson.Result) bool {
		found = g.Get("name").Str == group && !g.Get("archived").Bool()
		return !found
	})
	if !found {
		c.add(checkProperties, destinations.FindingWarning, "properties.group: the account has no property group "+group+", so no property can be made in it",
			"make the group in HubSpot, or name one that exists, such as contactinformation")
	}
}

// events checks the custom events that the settings name.
func (c *liveCheck) events(seen definitionsSeen) {
	if seen.status != http.StatusOK {
		return
	}
	var absent []string
	var never []string
	for name := range c.d.rules.named {
		if seen.list[name] == nil {
			absent = append(absent, name)
		}
	}
	for name := range c.d.rules.targets {
		switch {
		case seen.list[name] != nil || c.d.rules.named[name]:
		case c.d.rules.create:
			absent = append(absent, name)
		default:
			never = append(never, name)
		}
	}
	slices.Sort(absent)
	slices.Sort(never)
	switch {
	case len(never) > 0:
		c.add(checkEvents, destinations.FindingWarning, "events.map: the account has no custom event "+listed(never)+", and events.create is false, so they are skipped",
			"define them in HubSpot or under events.define, or set events.create: true")
	case len(seen.list) >= maxDefinitions && c.d.events.Create:
		c.add(checkEvents, destinations.FindingWarning, fmt.Sprintf("the account has %d custom events, as many as HubSpot allows; no other can be defined", len(seen.list)),
			"delete some in HubSpot; a deleted name can not be used again")
	case len(absent) > 0:
		c.add(checkEvents, destinations.FindingOK, "will be defined when they first occur: "+listed(absent), "")
	default:
		c.add(checkEvents, destinations.FindingOK, fmt.Sprintf("the account has %d of at most %d custom events", len(seen.list), maxDefinitions), "")
	}
}

// listed joins names, the first of them when they are many.
func listed(names []string) string {
	if len(names) <= maxListed {
		return strings.Join(names, ", ")
	}
	return strings.Join(names[:maxListed], ", ") + fmt.Sprintf(" and %d more", len(names)-maxListed)
}
