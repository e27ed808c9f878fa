package log

const childEnv = "EVENTROUTER_LOG_TEST_CHILD"

func childAppends(string) {}
