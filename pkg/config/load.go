package config

import (
	"fmt"
	"io"
	"os"
)

// maxFileBytes bounds the file: a configuration is written by hand, and what is larger is a mistake such as a log file's name.
const maxFileBytes = 1 << 20

// Load reads and checks the file at path. A file that cannot be read is a plain error; everything wrong with its content is in one
// [Problems], in the order of the lines, as Parse returns it.
func Load(path string) (*Config, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	if err != nil {
		return nil, err
	}
	return Parse(path, data, nil)
}

// Parse checks the content of a file. name stands for the file in messages. env looks up the variables of `${env.…}`; nil means those of
// the process. An error is always a [Problems]; beside it stands what was good, unless the file is no YAML at all, so that more of it can
// be checked. Such a configuration is not to be run.
func Parse(name string, data []byte, env func(string) (string, bool)) (*Config, error) {
	if env == nil {
		env = os.LookupEnv
	}
	root, err := parseYAML(name, data, env)
	if err != nil {
		return nil, err
	}
	cfg := Default()
	cfg.File = name
	l := loader{decoder: decoder{file: name}, root: Settings{file: name, line: 1, node: root}, cfg: &cfg}
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
}

// file is the top level. What has several forms is decoded by its own code.
type file struct {
	Server       server   `yaml:"server"`
	APIKeys      deferred `yaml:"api_keys"`
	Destinations deferred `yaml:"destinations"`
}

func (l *loader) load() {
	raw := file{Server: serverOf(l.cfg.Server)}
	l.decodeInto(l.root, &raw)
	l.server(raw.Server)
	l.apiKeys(Settings(raw.APIKeys))
	l.checkIDs()
	l.destinations(Settings(raw.Destinations))
	l.warnUnfed()
}

// fail reports a problem with a key of section.
func (l *loader) fail(section Settings, key, format string, args ...any) {
	l.problems = append(l.problems, section.Problem(key, format, args...))
}

// warn is fail for what stops nothing.
func (l *loader) warn(section Settings, key, format string, args ...any) {
	l.warnings = append(l.warnings, section.Problem(key, format, args...))
}

// parseYAML returns the one document in data as a tree; nil for an empty file. A nil env leaves `${env.…}` as it is.
func parseYAML(name string, data []byte, env func(string) (string, bool)) (*node, error) {
	if len(data) > maxFileBytes {
		return nil, Problems{{Pos: Pos{File: name}, Text: fmt.Sprintf("is larger than %d bytes", maxFileBytes)}}
	}
	doc, err := readDocument(data)
	if err != nil {
		return nil, Problems{syntaxProblem(name, err)}
	}
	if doc == nil {
		return nil, nil
	}
	b := builder{env: env, spare: maxAliased}
	root, err := b.build(doc.Content[0], 0)
	if err != nil {
		return nil, Problems{syntaxProblem(name, err)}
	}
	return root, nil
}
