package config

import (
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"
)

// maxFileBytes bounds the file: a configuration is written by hand, and what is larger is a mistake such as a log file's name.
const maxFileBytes = 1 << 20

// Load reads and checks the file at path. A file that cannot be read is a plain error; everything wrong with its content is in one
// [Problems], in the order of the lines, as Parse returns it.
func Load(path string) (*Config, error) {
	data, err := ReadFile(path)
	if err != nil {
		return nil, err
	}
	return Parse(path, data, nil)
}

// ReadFile reads a file that is to be parsed: at most so much of it that Parse sees that it is too large.
func ReadFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxFileBytes+1))
}

// Parse is ParseWith for a configuration that stands in one file.
func Parse(name string, data []byte, env func(string) (string, bool)) (*Config, error) {
	return ParseWith(name, data, Options{Env: env})
}

// Options of ParseWith.
type Options struct {
	// Env looks up the variables of `${env.…}`; nil means those of the process.
	Env func(name string) (value string, ok bool)
	// Read returns what stands at an address that the file names. It is told of the server section, which may not be good. Its error, which says
	// why it can not, is a problem of the file, but for ErrLeftOut. nil: an address is a problem.
	Read func(a Address, server Server) ([]byte, error)
	// Unset returns what stands for a placeholder without a default, of whose variables none is set; false: that is a problem. nil: it always is.
	// Where it is not nil the keys of server.encryption are not read: who has no secrets opens no data directory.
	Unset func(names []string) (value string, ok bool)
	// Base is YAML that says what the file does not, map by map; nil: nothing. Nothing may be wrong with it.
	Base []byte
	// ReadScript reads a transform file; its path is relative to the working directory or absolute. An error that is fs.ErrNotExist has it read from the disk,
	// and nil all.
	ReadScript func(path string) ([]byte, error)
}

// ParseWith checks the content of a file and of what it refers to. name stands for the file in messages. An error is always a [Problems]; beside
// it stands what was good, unless the file is no YAML at all, so that more of it can be checked. Such a configuration is not to be run.
func ParseWith(name string, data []byte, o Options) (*Config, error) {
	if o.Env == nil {
		o.Env = os.LookupEnv
	}
	env := &variables{lookup: o.Env, unset: o.Unset}
	root, err := parseYAML(name, data, env)
	if err != nil {
		return nil, err
	}
	if o.Base != nil {
		base, err := parseYAML(name, o.Base, env)
		if err != nil {
			return nil, err
		}
		root = root.over(base)
	}
	cfg := Default()
	cfg.File, cfg.Variables = name, env.secrets
	l := loader{decoder: decoder{file: name}, root: Settings{file: name, line: 1, node: root}, cfg: &cfg, read: o.Read, readScript: o.ReadScript, withoutKeys: o.Unset != nil}
	l.load()
	cfg.Warnings = l.warnings.Sorted()
	return &cfg, l.problems.Sorted().Err()
}

// loader fills cfg from root and collects what is wrong.
type loader struct {
	decoder
	root Settings
	cfg  *Config
	keys keyIndex
	read func(Address, Server) ([]byte, error)

	readScript func(path string) ([]byte, error)

	withoutKeys         bool         // of encryption
	configurator        configurator // checked; without a BaseURL there is none
	destinationsUnknown bool         // they stand elsewhere and cannot be read
}

// file is the top level. What has several forms is decoded by its own code.
type file struct {
	Server       server       `yaml:"server"`
	Geo          geo          `yaml:"geo"`
	APIKeys      deferred     `yaml:"api_keys"`
	Destinations deferred     `yaml:"destinations"`
	Apps         deferred     `yaml:"apps"`
	Configurator configurator `yaml:"configurator"`
}

// configurator is Jitsu's: a server that hands out API keys and destinations to who has its admin token.
type configurator struct {
	BaseURL    string `yaml:"base_url"`
	AdminToken Secret `yaml:"admin_token"`
}

type geo struct {
	MaxMindPath string `yaml:"maxmind_path"`
}

func (l *loader) load() {
	raw := file{Server: serverOf(l.cfg.Server)}
	l.decodeInto(l.root, &raw)
	l.server(raw.Server)
	l.configurator = l.checkConfigurator(raw)
	l.geo(raw.Geo)
	l.apiKeys(Settings(raw.APIKeys))
	l.checkIDs()
	l.nameApps(Settings(raw.Apps))
	l.destinations(Settings(raw.Destinations))
	l.apps(Settings(raw.Apps))
	l.warnUnfed()
}

// checkConfigurator returns the configurator's address, "" for none.
func (l *loader) checkConfigurator(raw file) configurator {
	c := raw.Configurator
	if c.BaseURL == "" {
		return c
	}
	c.BaseURL = strings.TrimRight(c.BaseURL, "/")
	if u, err := url.Parse(c.BaseURL); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.RawQuery != "" {
		l.fail(l.root, "configurator.base_url", "must be a URL such as https://configurator.example.com, without a query")
		return configurator{}
	}
	if !raw.APIKeys.value().empty() && !raw.Destinations.value().empty() {
		l.warn(l.root, "configurator", "is not used: api_keys and destinations are given")
	}
	return c
}

// configured is where the configurator has a part.
func (l *loader) configured(part, path string) (Settings, Address, bool) {
	if l.configurator.BaseURL == "" {
		return Settings{}, Address{}, false
	}
	section := Settings{path: "configurator.base_url", file: l.root.file, line: l.root.KeyPos("configurator.base_url").Line}
	a, err := newAddress(part, l.configurator.BaseURL+path, l.configurator.AdminToken)
	return section, a, err == nil
}

func (l *loader) geo(raw geo) {
	if strings.Contains(raw.MaxMindPath, "://") {
		l.fail(l.root, "geo.maxmind_path", "must be a file or a folder: the router downloads no databases, MaxMind's geoipupdate does")
		return
	}
	l.cfg.Geo = Geo{MaxMindPath: raw.MaxMindPath, Pos: l.root.KeyPos("geo.maxmind_path")}
}

// fail reports a problem with a key of section.
func (l *loader) fail(section Settings, key, format string, args ...any) {
	l.problems = append(l.problems, section.Problem(key, format, args...))
}

// within runs f for what stands in another file than the one in hand.
func (l *loader) within(file string, f func()) {
	before := l.file
	l.file = file
	f()
	l.file = before
}

// warn is fail for what stops nothing.
func (l *loader) warn(section Settings, key, format string, args ...any) {
	l.warnings = append(l.warnings, section.Problem(key, format, args...))
}

// parseYAML returns the one document in data as a tree; nil for an empty file. A nil env leaves `${env.…}` as it is.
func parseYAML(name string, data []byte, env *variables) (*node, error) {
	return parseText(name, data, maxFileBytes, builder{env: env, spare: maxAliased})
}

func parseText(name string, data []byte, most int, b builder) (*node, error) {
	if len(data) > most {
		return nil, Problems{{Pos: Pos{File: name}, Text: fmt.Sprintf("is larger than %d bytes", most)}}
	}
	doc, err := readDocument(data)
	if err != nil {
		return nil, Problems{syntaxProblem(name, err)}
	}
	if doc == nil {
		return nil, nil
	}
	root, err := b.build(doc.Content[0], 0)
	if err != nil {
		return nil, Problems{syntaxProblem(name, err)}
	}
	return root, nil
}
