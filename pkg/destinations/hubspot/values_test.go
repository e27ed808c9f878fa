package hubspot

import (
	"strings"
	"testing"
	"time"

	"github.com/tidwall/gjson"
)

func TestValues(t *testing.T) {
	const refused = "<does not fit>"
	plan := valueType{kind: kindEnum}
	plan.setOptions([]option{{"pro_2024", "Pro"}, {"Basic", "Basic plan"}, {"true", "Yes"}, {"false", "No"}})
	tags := valueType{kind: kindEnum, multi: true}
	tags.setOptions([]option{{"a", "Apple"}, {"b", "Banana"}})
	yesNo := valueType{kind: kindEnum}
	yesNo.setOptions([]option{{"yes", "Si"}, {"no", "No"}})
	types := map[string]*valueType{
		"string": {}, "number": {kind: kindNumber}, "bool": {kind: kindBool}, "date": {kind: kindDate}, "datetime": {kind: kindDatetime},
		"plan": &plan, "tags": &tags, "yesno": &yesNo, "owner": {kind: kindEnum, external: true},
	}
	f := func(kind, json, want string) {
		t.Helper()
		got, ok := types[kind].format(gjson.Parse(json))
		if !ok {
			got = refused
		}
		if got != want {
			t.Errorf("%s of %s: %q, want %q", kind, json, got, want)
		}
	}
	f("string", `"x"`, "x")
	f("string", `" "`, " ")
	f("string", `"01234"`, "01234")
	f("string", `12345678901234567890`, "12345678901234567890")
	f("string", `1.50`, "1.50")
	f("string", `true`, "true")
	f("string", `["a",1,null,true,""]`, "a;1;true")
	f("string", `{"city":"NYC"}`, `{"city":"NYC"}`)
	f("string", `[{"a":1}]`, `[{"a":1}]`)
	f("string", `"`+strings.Repeat("ü", 65536)+`"`, strings.Repeat("ü", 65536))
	f("string", `"`+strings.Repeat("ü", 65537)+`"`, refused)

	f("number", `45`, "45")
	f("number", `"45"`, "45")
	f("number", `" 45.5 "`, "45.5")
	f("number", `-0.5`, "-0.5")
	f("number", `12345678901234567890`, "12345678901234567890")
	f("number", `1e3`, "1000")
	f("number", `1.5E-3`, "0.0015")
	f("number", `1e400`, refused)
	for _, bad := range []string{`"0x10"`, `""`, `"1,000"`, `"12,50"`, `"+5"`, `".5"`, `"5."`, `"1.2.3"`, `"--1"`, `"NaN"`, `"1e3"`, `true`, `[1]`, `{}`} {
		f("number", bad, refused)
	}

	for _, yes := range []string{`true`, `"true"`, `"TRUE"`, `"Yes"`, `1`, `"1"`} {
		f("bool", yes, "true")
	}
	for _, no := range []string{`false`, `"False"`, `"no"`, `0`} {
		f("bool", no, "false")
	}
	for _, bad := range []string{`"maybe"`, `2`, `[true]`, `{}`} {
		f("bool", bad, refused)
	}

	f("date", `"2026-01-02"`, "2026-01-02")
	f("date", `"2026-01-02T23:30:00-05:00"`, "2026-01-03")
	f("date", `"2026-01-02T10:00:00.123Z"`, "2026-01-02")
	f("date", `1767312000`, "2026-01-02")
	f("date", `1767312000000`, "2026-01-02")
	f("date", `"1767312000000"`, "2026-01-02")
	f("date", `-86400`, "1969-12-31")
	f("datetime", `"2026-01-02T00:00:00Z"`, "1767312000000")
	f("datetime", `"2026-01-02T00:00:00.5+01:00"`, "1767308400500")
	f("datetime", `"2026-01-02 00:00:00"`, "1767312000000")
	f("datetime", `"2026-01-02"`, "1767312000000")
	f("datetime", `1767312000`, "1767312000000")
	f("datetime", `1767312000.5`, "1767312000500")
	f("datetime", `1767312000123`, "1767312000123")
	for _, bad := range []string{`"soon"`, `"02/01/2026"`, `true`, `1e30`, `"9999-01-01"`, `"0001-01-01"`, `{}`, `["2026-01-02"]`} {
		f("date", bad, refused)
		f("datetime", bad, refused)
	}

	f("plan", `"pro_2024"`, "pro_2024")
	f("plan", `"PRO_2024"`, "pro_2024")
	f("plan", `"pro"`, "pro_2024")
	f("plan", `"basic PLAN"`, "Basic")
	f("plan", `["pro"]`, "pro_2024")
	f("plan", `true`, "true")
	f("plan", `"yes"`, "true")
	f("plan", `"other"`, refused)
	f("plan", `["pro","basic"]`, refused)
	f("plan", `{}`, refused)
	f("yesno", `true`, "yes")
	f("yesno", `"FALSE"`, "no")
	f("tags", `["apple","b"]`, "a;b")
	f("tags", `"a; Banana"`, "a;b")
	f("tags", `["a","x"]`, "a")
	f("tags", `["x"]`, refused)
	f("tags", `[]`, refused)
	f("tags", `[["a"]]`, refused)
	f("owner", `12345`, "12345")
}

func TestAnExactOptionGoesBeforeALabel(t *testing.T) {
	var v valueType
	v.kind = kindEnum
	v.setOptions([]option{{"1", "Gold"}, {"gold", "Silver"}, {"GOLD", "x"}})
	for s, want := range map[string]string{"gold": "gold", "GOLD": "GOLD", "Gold": "gold", "silver": "gold"} {
		if got, _ := v.option(s); got != want {
			t.Errorf("%s: %s, want %s", s, got, want)
		}
	}
}

func TestCleanName(t *testing.T) {
	f := func(s, want string) {
		t.Helper()
		if got := cleanName(s); got != want {
			t.Errorf("cleanName(%q) = %q, want %q", s, got, want)
		}
	}
	f("firstname", "firstname")
	f("firstName", "firstname")
	f("Job Title", "job_title")
	f("job-title", "job_title")
	f("JOB__TITLE", "job_title")
	f("job__title", "job_title")
	f("$plan", "_plan")
	f("plan!", "plan_")
	f("__x", "_x")
	f("naïve", "na_ve")
	f("", "")
	f("a\xffb", "a_b")
}

func TestSnakeName(t *testing.T) {
	f := func(s, want string) {
		t.Helper()
		if got := snakeName(s); got != want {
			t.Errorf("snakeName(%q) = %q, want %q", s, got, want)
		}
	}
	f("firstName", "first_name")
	f("userID", "user_id")
	f("HTTPPort", "http_port")
	f("a1B", "a1_b")
	f("planTierName", "plan_tier_name")
	f("Plan Tier", "")
	f("plan", "")
	f("PLAN", "")
	f("größeXL", "gr_e_xl")
	f("", "")
}

func TestCutText(t *testing.T) {
	f := func(s string, n int, want string) {
		t.Helper()
		if got, was := cutText(s, n); got != want || was != (got != s) {
			t.Errorf("cutText(%q, %d) = %q, %v", s, n, got, was)
		}
	}
	f("abc", 3, "abc")
	f("abcd", 3, "abc")
	f("üüü", 3, "üüü")
	f("üüüü", 3, "üüü")
	f("😀😀", 3, "😀") // a pair of two counts twice
	f("", 0, "")
}

// format writes v as t wants it, days in UTC; ok is false when it does not fit.
func (t *valueType) format(v gjson.Result) (text string, ok bool) {
	f, reason := t.formatIn(v, time.UTC)
	return f.text, reason == ""
}
