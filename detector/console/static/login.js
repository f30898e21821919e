// Exchanges the token for a cookie that scripts can't read.
const form = document.getElementById("login");
const refused = document.getElementById("refused");

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
      location.replace(".");
      return;
    }
    refused.textContent = answer.status === 401 ? "That is not the token." : `The console answered ${answer.status}.`;
  } catch {
    refused.textContent = "The console can't be reached, or the token has characters it can't have.";
  }
  token.select();
});
