// Exchanges the token for a cookie that scripts can't read, and goes on to what the address named.
const form = document.getElementById("login");
const refused = document.getElementById("refused");

const enter = () => location.replace(`.${location.hash}`);
// A link from elsewhere arrives without the cookie (SameSite), although there is one.
fetch("session", { cache: "no-store" }).then((answer) => { if (answer.ok) enter(); }, () => {});

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  if (!window.isSecureContext) {
    refused.textContent = "Not sent: this connection is not encrypted. Use HTTPS, or localhost through a tunnel.";
    return;
  }
  const token = document.getElementById("token");
  try {
    const answer = await fetch("session", { method: "POST", headers: { Authorization: `Bearer ${token.value.trim()}` } });
    if (answer.ok) {
      enter();
      return;
    }
    refused.textContent = answer.status === 401 ? "That is not the token." : `The console answered ${answer.status}.`;
  } catch {
    refused.textContent = "The console can't be reached, or the token has characters it can't have.";
  }
  token.select();
});
