package config

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// Text is any single value as it is written: 020 stays "020". It is for what looks like a number and is a name, such as an account's id.
// A string field is filled by the same rule; the type says that numbers are expected.
type Text string

// Words is a list of text; a single value is a list of one.
type Words []string

// Size is a number of bytes: 1048576, or with a unit, 1MiB. Units are KB, MB, GB (powers of 1000) and KiB, MiB, GiB (of 1024).
type Size int64

// setScalar sets v from text, or leaves it as it is. Its error continues a sentence that begins with the value, and does not quote it.
func setScalar(text string, v reflect.Value) error {
	switch v.Type() {
	case durationType:
		return set(v.SetInt, text, parseDuration)
	case sizeType:
		return set(v.SetInt, text, parseSize)
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(text)
		return nil
	case reflect.Bool:
		return set(v.SetBool, text, parseBool)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return set(v.SetInt, text, func(text string) (int64, error) { return parseInt(text, v.Type().Bits()) })
	case reflect.Float32, reflect.Float64:
		return set(v.SetFloat, text, parseFloat)
	default:
		panic(fmt.Sprintf("BUG: configuration cannot hold a %s", v.Type()))
	}
}

func set[T any](set func(T), text string, parse func(string) (T, error)) error {
	value, err := parse(text)
	if err == nil {
		set(value)
	}
	return err
}

// parseInt reads decimal numbers only: YAML would read 010 as 8, which nobody means.
func parseInt(text string, bits int) (int64, error) {
	n, err := strconv.ParseInt(strings.ReplaceAll(text, "_", ""), 10, bits)
	if errors.Is(err, strconv.ErrRange) {
		return 0, errors.New("is too large")
	}
	if err != nil {
		if _, err := time.ParseDuration(text); err == nil {
			return 0, errors.New("is not a whole number: write it without a unit")
		}
		return 0, errors.New("is not a whole number")
	}
	return n, nil
}

func parseFloat(text string) (float64, error) {
	f, err := strconv.ParseFloat(text, 64)
	if err != nil || math.IsNaN(f) || math.IsInf(f, 0) {
		return 0, errors.New("is not a number")
	}
	return f, nil
}

// parseBool knows the words of YAML 1.1 too, which Jitsu's files may use.
func parseBool(text string) (bool, error) {
	switch strings.ToLower(text) {
	case "true", "yes", "on", "y":
		return true, nil
	case "false", "no", "off", "n":
		return false, nil
	}
	return false, errors.New("is neither true nor false")
}

func parseDuration(text string) (int64, error) {
	d, err := time.ParseDuration(text)
	if err != nil {
		if _, numErr := strconv.ParseFloat(text, 64); numErr == nil {
			return 0, errors.New("lacks a unit: write 500ms, 90s, 15m or 72h")
		}
		return 0, errors.New("is not a duration: write 500ms, 90s, 15m or 72h")
	}
	return int64(d), nil
}

var sizeUnits = map[string]int64{
	"": 1, "b": 1,
	"kb": 1e3, "mb": 1e6, "gb": 1e9,
	"kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30,
}

func parseSize(text string) (int64, error) {
	digits := strings.TrimRight(text, "bBkKmMgGiI ")
	unit, ok := sizeUnits[strings.ToLower(strings.TrimSpace(text[len(digits):]))]
	n, err := strconv.ParseInt(strings.ReplaceAll(digits, "_", ""), 10, 64)
	if !ok || err != nil && !errors.Is(err, strconv.ErrRange) {
		return 0, errors.New("is not a number of bytes: write 1048576, 512KB, 64MiB or 1GiB")
	}
	if err != nil || n > math.MaxInt64/unit || n < math.MinInt64/unit {
		return 0, errors.New("is too large")
	}
	return n * unit, nil
}
