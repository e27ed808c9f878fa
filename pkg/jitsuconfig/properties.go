package jitsuconfig

import (
	"regexp"
	"strings"

	"gopkg.in/yaml.v3"
)

// asProperties writes mappings that only name contact properties as hubspot.properties.map, and says whether they are such. That is so where each rule
// makes one plain member of the user of one value, nothing else reads what it changes, and who the event is about stays.
func (c *converter) asProperties(d *destination, m *yaml.Node, ms mappings, key *yaml.Node, path string) bool {
	if d.typ != "hubspot" || !ms.keep || !empty(value(m, "transform")) {
		return false
	}
	section, ok := d.settings()
	if !ok || value(section, "properties") != nil {
		return false
	}
	filter := said(value(m, "table_name_template"))
	all, except := &yaml.Node{Kind: yaml.MappingNode}, &yaml.Node{Kind: yaml.SequenceNode}
	used := map[string]bool{}
	for _, r := range ms.rules {
		p, ok := property(r)
		if !ok || used[p.name] || used[p.from] || p.from == p.name || strings.Contains(filter, p.name) || p.member != "" && strings.Contains(filter, p.member) {
			return false
		}
		used[p.name] = true
		if p.from != "" {
			used[p.from] = true
			except.Content = append(except.Content, text(p.from))
		}
		set(all, p.name, text(p.expression))
	}
	properties := &yaml.Node{Kind: yaml.MappingNode}
	set(properties, "map", all).HeadComment = "# Made of Jitsu's mappings by router import-config."
	if len(except.Content) > 0 {
		except.Style = yaml.FlowStyle
		set(properties, "except", except)
	}
	block(section)
	set(section, "properties", properties)
	c.note(Changed, key.Line, path, "is hubspot.properties.map now: the contact gets the same properties; custom events keep the user's members under their old names")
	return true
}

// settings is the section of the destination's type.
func (d *destination) settings() (*yaml.Node, bool) {
	for _, name := range [...]string{"config", d.typ} {
		if v := value(d.node, name); v != nil && v.Kind == yaml.MappingNode {
			return v, true
		}
	}
	return nil, false
}

// contactProperty is a rule as an entry of properties.map.
type contactProperty struct {
	name       string // of the property
	member     string // of the user, which is moved; ""
	from       string // the property that this member would be else; ""
	expression string
}

var (
	propertyName   = regexp.MustCompile(`^[a-z][a-z0-9_]*$`)
	plainMember    = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
	otherThanName  = regexp.MustCompile(`[^a-zA-Z0-9]+`)
	plainConstant  = regexp.MustCompile(`^"[A-Za-z][A-Za-z0-9_]*"$`)
	otherConstant  = regexp.MustCompile(`^("[^"\\{]*"|-?[0-9]{1,15}(\.[0-9]{1,6})?|true|false)$`)
	words          = map[string]bool{"null": true, "true": true, "false": true, "undefined": true, "nan": true, "infinity": true}
	identityMember = map[string]bool{"email": true, "id": true, "internal_id": true, "user_id": true, "anonymous_id": true, "hashed_anonymous_id": true}
)

// property says whether a rule can be an entry, and as which.
func property(r rule) (p contactProperty, ok bool) {
	to := names(r.to)
	if len(to) != 2 || to[0] != "user" || !propertyName.MatchString(to[1]) || identityMember[to[1]] {
		return p, false
	}
	p.name = to[1]
	switch r.action {
	case constant:
		p.expression = strings.Trim(r.value, `"`)
		if !plainConstant.MatchString(r.value) || words[strings.ToLower(p.expression)] {
			p.expression = r.value // in quotes: a constant of several words, or one that has a meaning
		}
		return p, otherConstant.MatchString(r.value) && !hasVariable(r.value) && r.value != `""`
	case move:
		from := names(r.from[0])
		if len(r.from) != 1 || len(from) != 2 || from[0] != "user" || !plainMember.MatchString(from[1]) || identityMember[strings.ToLower(from[1])] {
			return p, false
		}
		p.member = from[1]
		p.from = strings.ToLower(otherThanName.ReplaceAllString(p.member, "_"))
		// Where the event lacks the member that is moved, the user's own one of the new name counts.
		p.expression = "$.user?." + p.member + " !== undefined ? $.user." + p.member + " : $.user?." + p.name
		return p, true
	}
	return p, false
}
