package event

import "strings"

// noticePrefix is what no API key's id begins with.
const noticePrefix = "router:"

// NoticeKey stands in place of an API key's id in events that the router makes itself, to tell the team of what happened to a part of it, such as an app. They go to the
// destinations that ask for them by this key, and to no other.
func NoticeKey(of string) string { return noticePrefix + of }

// IsNoticeKey says whether an API key's id is one that NoticeKey returns.
func IsNoticeKey(id string) bool { return strings.HasPrefix(id, noticePrefix) }
