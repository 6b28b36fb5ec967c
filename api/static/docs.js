// Shows the API's description; signed-in browsers send the proof against forgery that unsafe requests need.
"use strict";

async function withProof(request) {
  if (["GET", "HEAD"].includes(request.method || "GET") || request.url.endsWith("/session")) {
    return request;
  }
  const answer = await fetch("/api/v1/me");
  if (answer.ok) {
    request.headers["X-CSRF-Token"] = (await answer.json()).csrf_token;
  }
  return request;
}

window.addEventListener("load", () => {
  SwaggerUIBundle({
    url: "/openapi.json",
    dom_id: "#swagger-ui",
    requestInterceptor: withProof,
    validatorUrl: null,
  });
});
