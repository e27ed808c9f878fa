package config

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

const envOpen = "${env."

// bareVariable is a value that is nothing but a shell variable.
var bareVariable = regexp.MustCompile(`^\$\{[A-Z_][A-Z0-9_]*\}$`)

// variables are what placeholders stand for.
type variables struct {
	lookup func(name string) (string, bool)
	unset  func(names []string) (string, bool) // Options.Unset

	secrets []Secret // values of those whose name speaks of a secret
}

// take notes a value that is to be shown to nobody.
func (v *variables) take(name, value string) string {
	lower := strings.ToLower(name)
	if namesSecret(name) || strings.HasSuffix(lower, "key") || strings.Contains(lower, "passw") {
		v.secrets = append(v.secrets, Secret(value))
	}
	return value
}

// replace replaces each `${env.A|env.B|default}` in s by the first variable that is set and not empty, else by the default.
func (v *variables) replace(s string) (string, error) {
	if bareVariable.MatchString(s) {
		return "", errors.New("a variable is written ${env.NAME}, with env. before its name")
	}
	var b strings.Builder
	for {
		before, rest, found := strings.Cut(s, envOpen)
		b.WriteString(before)
		if !found {
			return b.String(), nil
		}
		inside, after, closed := strings.Cut(rest, "}")
		if !closed {
			return "", errors.New("${env. lacks its closing brace")
		}
		if strings.Contains(inside, "${") {
			return "", errors.New("${env.…} cannot hold another one; write ${env.A|env.B|default}")
		}
		value, err := v.firstSet("env." + inside)
		if err != nil {
			return "", err
		}
		b.WriteString(value)
		s = after
	}
}

// firstSet evaluates the inside of one placeholder. Everything from the first alternative that is not a variable on is the default.
func (v *variables) firstSet(alternatives string) (string, error) {
	var names []string
	for rest := alternatives; ; {
		one, others, more := strings.Cut(rest, "|")
		name, isVariable := strings.CutPrefix(one, "env.")
		if !isVariable {
			return rest, nil
		}
		if name == "" || strings.ContainsAny(name, " \t\n=") {
			return "", errors.New("${env.…} lacks the name of a variable")
		}
		if value, ok := v.lookup(name); ok && value != "" {
			return v.take(name, value), nil
		}
		names = append(names, name)
		if !more {
			break
		}
		rest = others
	}
	if v.unset != nil {
		if value, ok := v.unset(names); ok {
			return v.take(names[0], value), nil
		}
	}
	if len(names) == 1 {
		return "", fmt.Errorf("environment variable %s is empty or not set; set it, or write a default: ${env.%[1]s|default}", names[0])
	}
	return "", fmt.Errorf("the environment variables %s are empty or not set; set one, or write a default after another |", strings.Join(names, ", "))
}
