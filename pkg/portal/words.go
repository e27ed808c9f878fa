package portal

import (
	"net/http"
	"strings"
)

// words are all that the page says in one language. %s is the hub, in Connected.
type words struct {
	Title, Close, NoScript, Retry, Loading     string
	Connection, Invitation, Connect, Reconnect string
	Blocked, NewTab, Waiting                   string
	Connected, NotConnected, Broken            string
	Uninstalled, Refused                       string // why an account has to connect anew
	Hub, Since, LastDelivery, Never            string
	Noticed                                    string            // when the problem was
	Problems                                   map[string]string // that keep events from HubSpot, by destinations.Cause
	Whose                                      string            // on a page of its own; %s is the account
	What, Options, Events, Saved               string
	End, EndText, Disconnect                   string
	Question, Consequence, Keep                string
	Disconnected, NotRevoked                   string
	Network, Unavailable, Gone                 string            // what went wrong
	Outcomes                                   map[string]string // of connecting, by the words of package connections; other: of any other
}

// inLanguage returns the words of a language, with the product's name in them.
func inLanguage(language, product string) words {
	if language == "de" {
		return german(product)
	}
	return english(product)
}

func english(product string) words {
	return words{
		Title: "HubSpot for " + product, Close: "Close", NoScript: "This page needs JavaScript.", Retry: "Try again", Loading: "Loading…",
		Connection: "Connection", Invitation: "Connect your HubSpot account, and " + product + " keeps it up to date. HubSpot opens in a window of its own and asks for your consent.",
		Connect: "Connect HubSpot", Reconnect: "Connect HubSpot again",
		Blocked: "If no window has opened, your browser has blocked it.", NewTab: "Open HubSpot in a new tab",
		Waiting:   "Waiting for you to finish in HubSpot’s window…",
		Connected: "Connected to HubSpot account %s", NotConnected: "Not connected to HubSpot", Broken: "HubSpot has to be connected again",
		Uninstalled: "The app was uninstalled in HubSpot. What is meant for HubSpot waits until you connect again.",
		Refused:     "HubSpot does not let " + product + " use your account any more. What is meant for HubSpot waits until you connect again.",
		Noticed:     "Problem noticed",
		Problems: map[string]string{
			"permission":  "HubSpot does not allow " + product + " everything that is to be sent. What it concerns waits. Please have an administrator of your HubSpot account connect it again here; if that does not help, your HubSpot plan may not have what is needed.",
			"limit":       "The calls that your HubSpot account allows for now are used up, perhaps by other apps. What is meant for HubSpot waits and is sent later; there is nothing you need to do.",
			"unavailable": "HubSpot can not be reached at present. What is meant for HubSpot waits and is sent as soon as that works; there is nothing you need to do.",
			"refused":     "Not everything could be sent to HubSpot. Please ask the support of " + product + ", where one can see why.",
			"other":       "Something keeps " + product + " from sending to HubSpot. What is meant for HubSpot waits. If this lasts, please ask the support of " + product + ".",
		},
		Whose: "For the account %s in " + product + ".",
		Hub:   "HubSpot account", Since: "Connected since", LastDelivery: "Last delivery", Never: "none yet",
		What: "What is sent to HubSpot", Options: "Data", Events: "Events", Saved: "Saved",
		End: "Disconnect", EndText: product + " then sends nothing to HubSpot any more. What is in HubSpot stays there.", Disconnect: "Disconnect",
		Question: "Disconnect HubSpot?", Consequence: "Nothing is sent to HubSpot any more until you connect again. What you have chosen here is forgotten.", Keep: "Stay connected",
		Disconnected: "HubSpot is disconnected.",
		NotRevoked:   "HubSpot is disconnected here, but the app may still be installed there: you can uninstall it in HubSpot’s settings, under connected apps. That ends it for everybody who has connected the same HubSpot account.",
		Network:      "The service can not be reached. Please check your connection to the internet and try again.",
		Unavailable:  "That did not work. Please try again later.",
		Gone:         "This page was open for too long, or is not complete. Please open it again from " + product + ".",
		Outcomes: map[string]string{
			"denied":         "You did not allow " + product + " to use your HubSpot account. Nothing was changed.",
			"scopes_missing": "HubSpot did not grant everything that is needed, so nothing was connected. Please ask an administrator of your HubSpot account to connect it. What is missing:",
			"unavailable":    "HubSpot can not be connected at present. Please try again later.",
			"other":          "HubSpot was not connected. Please try again.",
		},
	}
}

func german(product string) words {
	return words{
		Title: "HubSpot für " + product, Close: "Schließen", NoScript: "Diese Seite braucht JavaScript.", Retry: "Noch einmal versuchen", Loading: "Wird geladen …",
		Connection: "Verbindung", Invitation: "Verbinden Sie Ihr HubSpot-Konto, und " + product + " hält es auf dem neuesten Stand. HubSpot öffnet sich in einem eigenen Fenster und bittet um Ihre Zustimmung.",
		Connect: "HubSpot verbinden", Reconnect: "HubSpot neu verbinden",
		Blocked: "Wenn sich kein Fenster geöffnet hat, hat Ihr Browser es blockiert.", NewTab: "HubSpot in einem neuen Tab öffnen",
		Waiting:   "Bitte schließen Sie den Vorgang im Fenster von HubSpot ab …",
		Connected: "Verbunden mit dem HubSpot-Konto %s", NotConnected: "Nicht mit HubSpot verbunden", Broken: "HubSpot muss neu verbunden werden",
		Uninstalled: "Die App wurde in HubSpot deinstalliert. Was für HubSpot bestimmt ist, wartet, bis Sie neu verbinden.",
		Refused:     "HubSpot lässt " + product + " Ihr Konto nicht mehr verwenden. Was für HubSpot bestimmt ist, wartet, bis Sie neu verbinden.",
		Noticed:     "Problem bemerkt",
		Problems: map[string]string{
			"permission":  "HubSpot erlaubt " + product + " nicht alles, was gesendet werden soll. Was davon betroffen ist, wartet. Bitte lassen Sie jemanden, der Ihr HubSpot-Konto verwaltet, es hier neu verbinden; hilft das nicht, enthält Ihr HubSpot-Tarif vielleicht nicht, was nötig ist.",
			"limit":       "Die Aufrufe, die Ihr HubSpot-Konto zurzeit erlaubt, sind verbraucht, vielleicht durch andere Apps. Was für HubSpot bestimmt ist, wartet und wird später gesendet; Sie müssen nichts tun.",
			"unavailable": "HubSpot ist zurzeit nicht zu erreichen. Was für HubSpot bestimmt ist, wartet und wird gesendet, sobald das geht; Sie müssen nichts tun.",
			"refused":     "Nicht alles konnte an HubSpot gesendet werden. Bitte fragen Sie den Support von " + product + ": Dort ist der Grund zu sehen.",
			"other":       "Etwas hindert " + product + " daran, an HubSpot zu senden. Was für HubSpot bestimmt ist, wartet. Wenn das anhält, fragen Sie bitte den Support von " + product + ".",
		},
		Whose: "Für das Konto %s bei " + product + ".",
		Hub:   "HubSpot-Konto", Since: "Verbunden seit", LastDelivery: "Zuletzt übertragen", Never: "noch nichts",
		What: "Was an HubSpot gesendet wird", Options: "Daten", Events: "Ereignisse", Saved: "Gespeichert",
		End: "Trennen", EndText: product + " sendet dann nichts mehr an HubSpot. Was in HubSpot ist, bleibt dort.", Disconnect: "Trennen",
		Question: "HubSpot trennen?", Consequence: "An HubSpot wird nichts mehr gesendet, bis Sie neu verbinden. Was Sie hier gewählt haben, wird vergessen.", Keep: "Verbunden bleiben",
		Disconnected: "HubSpot ist getrennt.",
		NotRevoked:   "HubSpot ist hier getrennt, die App ist dort aber vielleicht noch installiert: Sie können sie in den Einstellungen von HubSpot unter den verbundenen Apps deinstallieren. Das beendet sie für alle, die dasselbe HubSpot-Konto verbunden haben.",
		Network:      "Der Dienst ist nicht zu erreichen. Bitte prüfen Sie Ihre Internetverbindung und versuchen Sie es noch einmal.",
		Unavailable:  "Das hat nicht geklappt. Bitte versuchen Sie es später noch einmal.",
		Gone:         "Diese Seite war zu lange offen oder ist unvollständig. Bitte öffnen Sie sie in " + product + " neu.",
		Outcomes: map[string]string{
			"denied":         "Sie haben " + product + " nicht erlaubt, Ihr HubSpot-Konto zu verwenden. Es wurde nichts geändert.",
			"scopes_missing": "HubSpot hat nicht alles erlaubt, was nötig ist; es wurde nichts verbunden. Bitten Sie jemanden, der Ihr HubSpot-Konto verwaltet, es zu verbinden. Es fehlt:",
			"unavailable":    "HubSpot kann zurzeit nicht verbunden werden. Bitte versuchen Sie es später noch einmal.",
			"other":          "HubSpot wurde nicht verbunden. Bitte versuchen Sie es noch einmal.",
		},
	}
}

// languageOf is what the address asks for, else the first of the page's languages that the browser names, else English.
func languageOf(r *http.Request) string {
	for part := range strings.SplitSeq(r.URL.Query().Get("lang")+","+r.Header.Get("Accept-Language"), ",") {
		tag, _, _ := strings.Cut(strings.TrimSpace(part), ";")
		tag, _, _ = strings.Cut(strings.ToLower(tag), "-")
		if tag == "en" || tag == "de" {
			return tag
		}
	}
	return "en"
}
