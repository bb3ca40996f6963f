// A site behind Queue-it's own connector, as its README has it: `node connector_site.mjs <folder of node_modules>`.
// It prints its port. What a test wants it to be like stands in the header x-site of each request, as JSON.

import { createHmac } from "node:crypto";
import { createServer } from "node:http";
import { createRequire } from "node:module";

const { KnownUser } = createRequire(`${process.argv[2]}/`)("@queue-it/connector-javascript");

// How far its clock is ahead, in ms.
let ahead = 0;
const RealDate = Date;
globalThis.Date = class extends RealDate {
  constructor(...given) {
    super(...(given.length ? given : [RealDate.now() + ahead]));
  }
};

function trigger(urlPart, operator, value) {
  const part = { ValidatorType: "UrlValidator", UrlPart: urlPart, Operator: operator, ValueToCompare: value };
  return [{ LogicalOperator: "And", TriggerParts: [{ ...part, IsNegative: false, IsIgnoreCase: true }] }];
}

function integrations({ event, queueDomain, queuePath = "" }) {
  const common = { EventId: event, QueueDomain: queueDomain, QueuePathPrefix: queuePath, CookieDomain: "" };
  const queue = { ActionType: "Queue", RedirectLogic: "AllowTParameter", LayoutName: "plain", Culture: "de-DE" };
  return JSON.stringify({
    Version: 3,
    Integrations: [
      { ...common, Name: "leave", ActionType: "Cancel", Triggers: trigger("PagePath", "Equals", "/logout") },
      {
        ...common,
        ...queue,
        Name: "come in",
        ExtendCookieValidity: true,
        CookieValidityMinute: 20,
        Triggers: trigger("PageUrl", "Contains", "/"),
      },
    ],
  });
}

function context(request, response, url, address) {
  const cookies = (request.headers.cookie ?? "").split(";").map((one) => one.trim().split("="));
  return {
    getHttpRequest: () => ({
      getUserAgent: () => request.headers["user-agent"] ?? "",
      getHeader: (name) => request.headers[name.toLowerCase()] ?? "",
      getAbsoluteUri: () => url,
      getUserHostAddress: () => address,
      getCookieValue: (name) => {
        const found = cookies.find(([known]) => known === name);
        return found && decodeURIComponent(found[1]);
      },
      getRequestBodyAsString: () => "",
    }),
    getHttpResponse: () => ({
      setCookie: (name, value, _domain, expiration) => {
        // As the web frameworks do: RFC 6265 allows no other names.
        if (!/^[\w!#$%&'*.^`|~+-]+$/.test(name)) throw new TypeError(`the cookie's name is invalid: ${name}`);
        const expires = new RealDate(expiration * 1000).toUTCString();
        response.appendHeader("set-cookie", `${name}=${encodeURIComponent(value)}; Path=/; Expires=${expires}`);
      },
    }),
    getCryptoProvider: () => ({
      getSha256Hash: (secret, text) => createHmac("sha256", secret).update(text).digest("hex"),
    }),
    getEnqueueTokenProvider: () => null,
  };
}

async function answer(request, response) {
  const site = JSON.parse(request.headers["x-site"]);
  ahead = (site.ahead ?? 0) * 1000;
  const url = `http://${request.headers.host}${request.url}`;
  const withoutToken = url.replace(/([?&])(queueittoken=[^&]*)/i, "");
  const token = new URL(url).searchParams.get("queueittoken") ?? "";
  const provider = context(request, response, url, site.address ?? "");
  const result = await KnownUser.validateRequestByIntegrationConfig(
    withoutToken,
    token,
    integrations(site),
    site.customer,
    site.secret,
    provider,
    "",
  );
  const redirect = result.doRedirect() ? result.redirectUrl : url !== withoutToken && result.actionType && withoutToken;
  if (redirect) response.writeHead(302, { location: redirect }).end();
  else response.writeHead(200, { "content-type": "text/plain" }).end(`inside ${request.url}`);
}

const server = createServer((request, response) => {
  answer(request, response).catch((error) => response.writeHead(500).end(String(error)));
});
server.listen(0, "127.0.0.1", () => console.log(server.address().port));
