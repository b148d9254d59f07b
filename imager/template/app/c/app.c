/* Asks the model every ten seconds whether it is well. */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

static int is_well(void)
{
	static const char request[] =
		"GET /healthz HTTP/1.1\r\nHost: device\r\nConnection: close\r\n\r\n";
	struct sockaddr_in model = { .sin_family = AF_INET, .sin_port = htons(8080) };
	struct timeval patience = { .tv_sec = 5 };
	char answer[64] = "";
	size_t length = 0;
	ssize_t got;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return 0;
	model.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
	if (connect(fd, (struct sockaddr *)&model, sizeof model) == 0 &&
	    send(fd, request, sizeof request - 1, MSG_NOSIGNAL) == (ssize_t)sizeof request - 1)
		while (length < sizeof answer - 1 &&
		       (got = read(fd, answer + length, sizeof answer - 1 - length)) > 0)
			length += (size_t)got;
	close(fd);
	return strncmp(answer, "HTTP/1.1 200 ", 13) == 0;
}

int main(void)
{
	/* A newline on this descriptor says "ready"; each further one is a heartbeat. */
	const char *number = getenv("FERRITE_NOTIFY_FD");
	int notify = number ? atoi(number) : -1;
	int told = -1;

	setvbuf(stdout, NULL, _IOLBF, 0);
	for (;;) {
		int well = is_well();

		if (well != told)
			printf("the model is %s\n", well ? "well" : "not well");
		told = well;
		if (well && notify >= 0 && write(notify, "\n", 1) < 0)
			perror("app: heartbeat");
		sleep(well ? 10 : 1);
	}
}
