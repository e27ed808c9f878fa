package docs

import (
	_ "embed"
	"regexp"
	"strings"
)

//go:embed jitsu-differences.md
var jitsuDifferences string

var differenceRow = regexp.MustCompile("(?m)^\\| `([^|]*)` \\| ((?:[^|\\\\]|\\\\.)*) \\| ((?:[^|\\\\]|\\\\.)*) \\|$")

// Differences returns the rows of a group in the one table of deliberate differences from Jitsu: case by reason. A case of two names, a template and
// an event, has a blank between them. The tests of the packages take from here which recorded cases may come out otherwise.
func Differences(group string) (reasons map[string]string) {
	reasons = map[string]string{}
	for _, row := range differenceRow.FindAllStringSubmatch(jitsuDifferences, -1) {
		if row[1] != group {
			continue
		}
		// Code spans, with commas between: the template may hold anything but a back quote.
		name := strings.ReplaceAll(strings.Trim(row[2], "`"), "`, `", " ")
		reasons[strings.ReplaceAll(name, `\|`, "|")] = row[3]
	}
	return reasons
}
