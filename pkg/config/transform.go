package config

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"
)

// maxScriptBytes bounds a transform file; the compiler's own bound is lower.
const maxScriptBytes = 1 << 20

// transform returns the script of a destination and where it begins; "" when there is none, or it is switched off.
func (l *loader) transform(s Settings, raw dataLayout) (script string, at Pos) {
	const key, fileKey = "data_layout.transform", "data_layout.transform_file"
	if raw.Transform != "" && raw.TransformFile != "" {
		l.fail(s, fileKey, "stands beside transform; keep one of the two")
		return "", Pos{}
	}
	script, at = raw.Transform, s.KeyPos(key)
	if raw.TransformFile != "" {
		path, text, err := l.script(s, raw.TransformFile)
		if err != nil {
			l.fail(s, fileKey, "%v", err)
			return "", Pos{}
		}
		script, at = text, Pos{File: path, Line: 1}
	}
	if !raw.TransformEnabled || strings.TrimSpace(script) == "" {
		return "", Pos{}
	}
	return script, at
}

// script reads a transform file, whose name is relative to the folder of the configuration file.
func (l *loader) script(s Settings, name string) (path, text string, err error) {
	if s.file != l.cfg.File {
		return "", "", errors.New("can only be named in the configuration file itself; write the script into transform")
	}
	if path = name; !filepath.IsAbs(path) {
		path = filepath.Join(filepath.Dir(l.cfg.File), name)
	}
	l.cfg.Scripts = append(l.cfg.Scripts, path)
	if l.readScript != nil {
		data, err := l.readScript(path)
		if !errors.Is(err, fs.ErrNotExist) {
			return path, string(data), err
		}
	}
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return path, "", err
	case !info.Mode().IsRegular():
		return path, "", errors.New("is no file: " + path)
	case info.Size() > maxScriptBytes:
		return path, "", errors.New("is longer than 1 MiB: " + path)
	}
	data, err := os.ReadFile(path)
	if err == nil && !utf8.Valid(data) {
		err = errors.New("is no text in UTF-8: " + path)
	}
	return path, string(data), err
}
