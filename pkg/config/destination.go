package config

import (
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"
)

// destination is one element of `destinations` as the file spells it, without the section that is named after its type.
type destination struct {
	Type       Text         `yaml:"type"`
	Mode       string       `yaml:"mode"`
	OnlyTokens deferred     `yaml:"only_tokens"`
	Staged     bool         `yaml:"staged"`
	DataLayout dataLayout   `yaml:"data_layout"`
	Lanes      lanes        `yaml:"lanes"`
	Retry      retry        `yaml:"retry"`
	Enrichment []enrichment `yaml:"enrichment"`
	Filter     Settings     `yaml:"filter"`
	Config     Settings     `yaml:"config"`

	Connection        string        `yaml:"connection"`
	Account           string        `yaml:"account"`
	UnknownAccountTTL time.Duration `yaml:"unknown_account_ttl"`
	UnknownAccounts   int           `yaml:"unknown_accounts"`
}

type dataLayout struct {
	Transform         string `yaml:"transform"`
	TransformFile     string `yaml:"transform_file"`
	TransformEnabled  bool   `yaml:"transform_enabled"`
	TableNameTemplate string `yaml:"table_name_template"`
}

type lanes struct {
	MaxBytes Size          `yaml:"max_bytes"`
	MaxAge   time.Duration `yaml:"max_age"`
	OnFull   OnFull        `yaml:"on_full"`
}

// enrichment is checked by the package that follows it.
type enrichment struct {
	Name string `yaml:"name"`
	From string `yaml:"from"`
	To   string `yaml:"to"`
}

type retry struct {
	MaxAge   time.Duration `yaml:"max_age"`
	MaxDelay time.Duration `yaml:"max_delay"`
}

// destinationName bounds names: they are parts of keys in the store and labels of metrics.
var destinationName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

func (l *loader) destinations(section Settings) {
	switch n := section.node; {
	case n.empty(): // without a configurator see warnUnfed
		if at, a, ok := l.configured(PartDestinations, "/api/v1/destinations"); ok {
			l.destinationsElsewhere(at, a)
		}
	case n.kind == scalar && !l.sound(n, placeOf(section)):
	case n.kind == scalar && strings.HasPrefix(n.text, "{"):
		l.inlineDestinations(section)
	case n.kind == scalar && isAddress(n.text):
		a, err := newAddress(PartDestinations, n.text, "")
		if err != nil {
			l.fail(section, "", "%v", err)
			break
		}
		l.destinationsElsewhere(section, a)
	case n.kind == scalar:
		l.fail(section, "", "must be a map, a URL, the name of a file that begins with / or file://, or JSON text")
	case n.kind == sequence:
		l.fail(section, "", "must be a map from the name of a destination to its settings, not a list")
	default:
		l.sound(n, placeOf(section))
		l.destinationMap(section)
	}
}

// destinationsElsewhere reads the destinations that stand at a.
func (l *loader) destinationsElsewhere(section Settings, a Address) {
	all, ok := l.elsewhere(section, a, "destinations")
	if !ok {
		l.destinationsUnknown = true
		return
	}
	l.within(all.file, func() {
		if all.node.kind != mapping || len(all.node.pairs) == 0 {
			// Also for an empty map: the events of a service that lost its data must not go nowhere.
			l.fail(all, "", `must be a map from names to destinations, at least one; "staged": true keeps one from getting events`)
			return
		}
		l.sound(all.node, placeOf(all))
		l.destinationMap(all)
	})
}

// inlineDestinations reads the string {"destinations": {…}}.
func (l *loader) inlineDestinations(section Settings) {
	root, err := parseInline(section.node.text)
	all, ok := root.child("destinations")
	if err != nil || !ok || len(root.pairs) > 1 || all.value.kind != mapping {
		l.fail(section, "", `is not JSON of the form {"destinations": {"crm": {"type": "hubspot"}}}`)
		return
	}
	all.value.setLine(section.line, section.node)
	section.node = all.value
	l.destinationMap(section)
}

func (l *loader) destinationMap(section Settings) {
	for _, p := range section.node.pairs {
		s := Settings{path: joinPath(section.path, cut(p.key)), file: section.file, line: p.line, node: p.value}
		l.cfg.Destinations = append(l.cfg.Destinations, l.destination(p.key, s))
	}
}

// destination reads the destination called name.
func (l *loader) destination(name string, s Settings) Destination {
	dest := DefaultDestination(name)
	if strings.Contains(name, ".") {
		l.fail(s, "", "a name cannot hold a dot; write %s", strings.ReplaceAll(name, ".", "_"))
	} else if !destinationName.MatchString(name) {
		l.fail(s, "", "a name is made of 1 to 64 letters, digits, _ and -")
	}
	if s.node.kind != mapping {
		l.fail(s, "", "must hold keys with values, at least `type`")
		return dest
	}
	dest.Type = l.destinationType(name, s)
	raw := destination{
		Lanes: lanes{Size(dest.Lanes.MaxBytes), dest.Lanes.MaxAge, ""},
		Retry: retry(dest.Retry), DataLayout: dataLayout{TransformEnabled: true}, UnknownAccountTTL: dest.UnknownAccountTTL, UnknownAccounts: dest.UnknownAccounts,
	}
	rest := s
	if !isDestinationKey(dest.Type) {
		rest.node = s.node.without(dest.Type) // destinationSettings takes it
	}
	l.decodeInto(rest, &raw)
	if raw.Connection != "" && dest.Type != "hubspot" {
		l.fail(s, "connection", "is for destinations of type hubspot")
	}
	if raw.Connection != "" && raw.Lanes.OnFull == Refuse {
		l.fail(s, "lanes.on_full", "can not be %s with `connection`: one account whose lane is full would have the events of all refused; leave it out, which means %s", Refuse, DeadLetterOldest)
	}
	if raw.Connection != "" && !s.Has("lanes.max_bytes") {
		raw.Lanes.MaxBytes = accountLane
	}
	if raw.Lanes.OnFull == "" {
		if raw.Lanes.OnFull = dest.Lanes.OnFull; raw.Connection != "" {
			raw.Lanes.OnFull = DeadLetterOldest
		}
	}
	l.checkDestination(s, raw)
	dest.OnlyTokens = l.onlyTokens(Settings(raw.OnlyTokens))
	dest.Staged = raw.Staged
	dest.TransformFile = raw.DataLayout.TransformFile
	dest.Transform, dest.TransformPos = l.transform(s, raw.DataLayout)
	dest.Match = raw.Filter
	dest.Filter = raw.DataLayout.TableNameTemplate
	dest.FilterPos = s.KeyPos("data_layout.table_name_template")
	dest.Lanes = LaneLimits{int64(raw.Lanes.MaxBytes), raw.Lanes.MaxAge, raw.Lanes.OnFull}
	dest.Retry = Retry(raw.Retry)
	dest.Connection, dest.Account, dest.AccountPos, dest.UnknownAccountTTL = raw.Connection, raw.Account, Pos{}, raw.UnknownAccountTTL
	dest.UnknownAccounts = raw.UnknownAccounts
	if raw.Account != "" {
		dest.AccountPos = s.KeyPos("account")
	}
	list, _ := s.node.child("enrichment")
	for i, r := range raw.Enrichment {
		dest.Enrichment = append(dest.Enrichment, Enrichment{r.Name, r.From, r.To, Pos{s.file, list.value.items[i].line}})
	}
	dest.Settings = l.destinationSettings(s, dest.Type)
	return dest
}

func isDestinationKey(name string) bool {
	_, ok := fieldsOf(reflect.TypeFor[destination]()).find(name)
	return ok
}

// destinationType is what `type` says, by default the name. A file without a usable type, in which neither the name nor `config` has
// settings but some other key has, means the type of that key.
func (l *loader) destinationType(name string, s Settings) string {
	p, given := s.node.child("type")
	if given && p.value.kind == scalar && !p.value.empty() && len(p.value.faults) == 0 {
		return p.value.text
	}
	if s.Has(name) || s.Has("config") {
		return name
	}
	for _, p := range s.node.pairs {
		_, ignored := destinationLeftOut[p.key]
		if p.value.kind == mapping && !isDestinationKey(p.key) && !ignored {
			if !given { // else it is reported in its own place
				l.fail(s, "", "lacks its type; write `type: %s`", cut(p.key))
			}
			return p.key
		}
	}
	return name
}

func (l *loader) checkDestination(s Settings, raw destination) {
	check := func(ok bool, key, format string, args ...any) {
		if !ok {
			l.fail(s, key, format, args...)
		}
	}
	check(raw.Mode == "" || raw.Mode == "stream", "mode", "must be stream, which is the default here; batch and synchronous are not supported")
	check(raw.Lanes.MaxBytes > 0, "lanes.max_bytes", "must be more than 0")
	check(raw.Lanes.MaxAge >= 0, "lanes.max_age", "must not be negative; 0 is no limit")
	check(raw.Lanes.OnFull == Refuse || raw.Lanes.OnFull == DeadLetterOldest, "lanes.on_full", "must be %s or %s", Refuse, DeadLetterOldest)
	check(raw.Retry.MaxAge > 0, "retry.max_age", "must be more than 0")
	check(raw.Retry.MaxDelay > 0, "retry.max_delay", "must be more than 0")
	check(raw.Connection != "" || raw.Account == "", "account", "means nothing without `connection`, the app whose connected accounts the destination delivers to")
	check(raw.UnknownAccountTTL >= 0, "unknown_account_ttl", "must not be negative; 0 is no limit")
	check(raw.UnknownAccounts > 0, "unknown_accounts", "must be more than 0")
}

// destinationSettings is the section that the destination's own package decodes: `config`, or what is named after the type.
func (l *loader) destinationSettings(s Settings, typ string) Settings {
	config, hasConfig := s.node.child("config")
	old, hasOld := s.node.child(typ)
	hasOld = hasOld && !isDestinationKey(typ)
	hasConfig = hasConfig && !config.value.empty()
	settings := Settings{path: joinPath(s.path, cut(typ)), file: s.file, line: s.line}
	switch {
	case hasConfig:
		if hasOld {
			l.warn(s, typ, "is not used: config stands beside it and goes before it; remove one of the two")
		}
		settings.path, settings.line, settings.node = joinPath(s.path, "config"), config.line, config.value
	case hasOld:
		settings.line, settings.node = old.line, old.value
		l.problems = settings.faults(settings.node, l.problems) // those of config have been found by decoding it
	}
	return settings
}

// onlyTokens resolves ids and secrets to ids. It shows none: an unknown one may be a secret of yesterday.
func (l *loader) onlyTokens(section Settings) []string {
	n := section.node
	if n == nil || n.null {
		return nil
	}
	tokens := n.items
	if n.kind == scalar {
		tokens = []*node{n}
	}
	if n.kind == mapping || len(tokens) == 0 {
		l.fail(section, "", "must be a list of ids or secrets of API keys; leave it out for all of them")
		return nil
	}
	ids := make([]string, 0, len(tokens))
	for i, token := range tokens {
		at := placeOf(section).item(i)
		id, ok := l.keys.ids[token.text]
		switch {
		case !l.sound(token, at):
		case token.kind != scalar || token.empty() || !ok && l.keys.whole:
			l.report(token.line, at, "is neither the id nor a secret of any element of api_keys")
		case ok && !slices.Contains(ids, id):
			ids = append(ids, id)
		}
	}
	return ids
}

// warnUnfed tells of API keys whose events nobody takes.
func (l *loader) warnUnfed() {
	fed, all := map[string]bool{}, false
	for _, d := range l.cfg.Destinations {
		all = all || !d.Staged && d.OnlyTokens == nil
		for _, id := range d.OnlyTokens {
			fed[id] = fed[id] || !d.Staged
		}
	}
	if l.destinationsUnknown {
		return
	}
	if len(l.cfg.Destinations) == 0 {
		l.warn(l.root, "destinations", "has none: events are accepted and go nowhere")
		return
	}
	for i, k := range l.cfg.APIKeys {
		if !all && !fed[k.ID] {
			l.warn(l.keys.sections[i], "", "no destination takes the events of API key %q: they are accepted and go nowhere; name it in a destination's only_tokens", k.ID)
		}
	}
}
