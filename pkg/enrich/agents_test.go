package enrich

import (
	"fmt"
	"slices"
)

// agentMix are n user agents as a web site sees them: browsers of computers and phones in several versions, web views, some bots and libraries.
func agentMix(n int) []string {
	const (
		webKit = "AppleWebKit/537.36 (KHTML, like Gecko)"
		apple  = "AppleWebKit/605.1.15 (KHTML, like Gecko)"
	)
	phones := []string{
		"K", "Pixel 8", "SM-S911B", "SM-A546E", "Redmi Note 12", "CPH2449", "V2250", "moto g(60)", "M2101K6G", "RMX3630", "LE2115", "XQ-CT54", "ASUS_AI2302",
	}
	var all []string
	for v := 0; len(all) < n; v++ {
		chrome, fox, ios := fmt.Sprintf("%d.0.%d.0", 140-v%40, v/40), 140-v%40, fmt.Sprintf("%d_%d", 18-v%6, v%8)
		model := phones[v%len(phones)]
		all = append(
			all,
			"Mozilla/5.0 (Windows NT 10.0; Win64; x64) "+webKit+" Chrome/"+chrome+" Safari/537.36",
			"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) "+webKit+" Chrome/"+chrome+" Safari/537.36",
			"Mozilla/5.0 (Linux; Android 14; "+model+") "+webKit+" Chrome/"+chrome+" Mobile Safari/537.36",
			fmt.Sprintf("Mozilla/5.0 (iPhone; CPU iPhone OS %s like Mac OS X) %s Version/%d.1 Mobile/15E%d Safari/604.1", ios, apple, 18-v%6, 100+v),
			"Mozilla/5.0 (Windows NT 10.0; Win64; x64) "+webKit+" Chrome/"+chrome+" Safari/537.36 Edg/"+chrome,
			fmt.Sprintf("Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:%d.0) Gecko/20100101 Firefox/%d.0", fox, fox),
			fmt.Sprintf("Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) %s Version/%d.%d Safari/605.1.15", apple, 18-v%6, v%9),
			"Mozilla/5.0 (Linux; Android 13; SM-A137F Build/TP1A.220624.014; wv) "+webKit+" Version/4.0 Chrome/"+chrome+" Mobile Safari/537.36 Instagram 3"+fmt.Sprint(v)+".0.0.34",
			fmt.Sprintf("Mozilla/5.0 (iPhone; CPU iPhone OS %s like Mac OS X) %s Mobile/15E148 [FBAN/FBIOS;FBAV/4%d.0.0.39;FBDV/iPhone14,7;FBMD/iPhone;FBSN/iOS]", ios, apple, v),
			"Mozilla/5.0 (Linux; Android 12; SAMSUNG "+model+") "+webKit+" SamsungBrowser/2"+fmt.Sprint(v%9)+".0 Chrome/"+chrome+" Mobile Safari/537.36",
		)
		if v%4 == 0 {
			all = append(
				all,
				"Mozilla/5.0 (compatible; Googlebot/2."+fmt.Sprint(v)+"; +http://www.google.com/bot.html)",
				"Mozilla/5.0 (X11; Linux x86_64) "+webKit+" HeadlessChrome/"+chrome+" Safari/537.36",
				"python-requests/2."+fmt.Sprint(v),
			)
		}
	}
	return slices.Clip(all[:n])
}
