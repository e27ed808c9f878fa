package config

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// AppEventsKey is what stands for an API key in events of an app, and in only_tokens.
func AppEventsKey(app string) string { return "app:" + app }

// TakesApp says whether the destination gets the events of an app: those of the app whose accounts it delivers to, or those that only_tokens names.
func (d *Destination) TakesApp(app string) bool {
	if d.OnlyTokens == nil {
		return d.Connection == app
	}
	return slices.Contains(d.OnlyTokens, AppEventsKey(app))
}

// nameApps lets only_tokens name the events of apps.
func (l *loader) nameApps(section Settings) {
	for _, m := range section.Members() {
		name := AppEventsKey(m.Key)
		if l.keys.taken[name] {
			l.fail(m.Value, "", "%s is the id of an API key, and stands for the events of this app: choose another name for one of them", name)
		}
		l.keys.ids[name] = name
	}
}

// keyTexts are the keys of an app, in the file and in those that it names.
func (l *loader) keyTexts(s Settings, raw endUserTokens) (texts []KeyText) {
	place := func(key string, i int) (path string, pos Pos) {
		at := s.KeyPos("tokens." + key)
		path = joinPath(s.path, "tokens."+key)
		if n, ok := find(s.node, []string{"tokens", key}); ok && n.kind == sequence && i < len(n.items) {
			return fmt.Sprintf("%s[%d]", path, i), Pos{File: s.file, Line: n.items[i].line}
		}
		return path, at
	}
	for i, text := range raw.Keys {
		path, pos := place("keys", i)
		texts = append(texts, KeyText{text, path, pos})
	}
	for i, name := range raw.KeyFiles {
		path, pos := place("key_files", i)
		data, err := l.appFile(name)
		if err != nil {
			l.problems = append(l.problems, Problem{Pos: pos, Path: path, Text: err.Error()})
			continue
		}
		texts = append(texts, KeyText{string(data), path, pos})
	}
	return texts
}

// schemas reads the files that app events name as their schemas.
func (l *loader) schemas(events Settings) map[string]string {
	files := map[string]string{}
	for _, m := range events.Members() {
		n, ok := m.Value.node.child("schema")
		if !ok || n.value.kind != scalar || n.value.empty() {
			continue
		}
		data, err := l.appFile(n.value.text)
		if err != nil {
			l.fail(m.Value, "schema", "%v", err)
			continue
		}
		files[n.value.text] = string(data)
	}
	return files
}

// appFile reads a file that an app names, relative to the folder of the configuration file. A change of it is a change of the configuration.
func (l *loader) appFile(name string) ([]byte, error) {
	if strings.Contains(name, "://") {
		return nil, errors.New("must be the name of a file, not a URL")
	}
	path := name
	if !filepath.IsAbs(path) {
		path = filepath.Join(filepath.Dir(l.cfg.File), name)
	}
	data, err := l.scriptData(path)
	l.cfg.Scripts = append(l.cfg.Scripts, Script{path, data})
	switch {
	case err != nil:
		return nil, err
	case len(data) > maxScriptBytes:
		return nil, fmt.Errorf("%s is longer than 1 MiB", path)
	}
	return bytes.TrimPrefix(data, []byte("\uFEFF")), nil
}
