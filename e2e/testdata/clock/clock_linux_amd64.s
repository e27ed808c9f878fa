#include "textflag.h"

// func moveClocks()
TEXT ·moveClocks(SB), NOSPLIT, $0-0
	MOVQ runtime·vdsoClockgettimeSym(SB), AX
	MOVQ AX, ·realGettime(SB)
	LEAQ ·movedGettime(SB), AX
	MOVQ AX, runtime·vdsoClockgettimeSym(SB)
	RET

// movedGettime is called as a function of C: the clock in DI, 0 or 1, and the timespec in SI.
TEXT ·movedGettime(SB), NOSPLIT|NOFRAME, $0-0
	SUBQ $24, SP
	MOVQ DI, 0(SP)
	MOVQ SI, 8(SP)
	MOVQ ·realGettime(SB), AX
	TESTQ AX, AX
	JEQ  call
	CALL AX
	JMP  move
call:
	MOVQ $228, AX // clock_gettime
	SYSCALL
move:
	MOVQ 0(SP), DI
	MOVQ 8(SP), SI
	ADDQ $24, SP
	MOVQ ·offsets(SB), CX
	MOVQ (CX)(DI*8), DX
	ADDQ DX, (SI)
	XORL AX, AX
	RET
