"""The server's own answer to what it can't read as HTTP: a problem document like every other error."""

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from api.problems import Problem, problem_response


class ProblemProtocol(HttpToolsProtocol):
    """uvicorn's HTTP, but for a request that can't be parsed: no application ever sees that one."""

    def send_400_response(self, msg: str) -> None:
        """Refuse and close. `msg` is the server's wording, which the reader need not know."""
        del msg
        refusal = problem_response(Problem.UNUSABLE_REQUEST, "This is not HTTP/1.1; the connection is closed.")
        headers = [*refusal.raw_headers, (b"connection", b"close")]
        lines = [name + b": " + value + b"\r\n" for name, value in headers]
        self.transport.write(b"".join([STATUS_LINE[400], *lines, b"\r\n", bytes(refusal.body)]))
        self.transport.close()
