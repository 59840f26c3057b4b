"""What a page looks like, as far as it can be measured."""

# Texts whose contrast is below 4.5 (WCAG 2 AA), each with its contrast. Disabled controls are exempt.
FAINT = """() => {
    const context = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
    const rgba = (color) => {
        context.clearRect(0, 0, 1, 1);
        context.fillStyle = color;
        context.fillRect(0, 0, 1, 1);
        const [red, green, blue, alpha] = context.getImageData(0, 0, 1, 1).data;
        return [red, green, blue, alpha / 255];
    };
    const over = (top, below) => below.map((part, place) => top[place] * top[3] + part * (1 - top[3]));
    const background = (element) => {
        if (!element) return rgba(matchMedia("(prefers-color-scheme: dark)").matches ? "#121212" : "#fff").slice(0, 3);
        const own = rgba(getComputedStyle(element).backgroundColor);
        return own[3] === 1 ? own.slice(0, 3) : over(own, background(element.parentElement));
    };
    const luminance = (color) => {
        const [red, green, blue] = color.map((part) => part / 255).map((part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
    };
    const faint = [];
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    let looked = 0;
    while (walker.nextNode()) {
        const element = walker.currentNode.parentElement;
        const text = walker.currentNode.data.trim();
        if (!text || !element.checkVisibility() || element.closest(":disabled, svg, .unseen, select")) continue;
        looked += 1;
        const behind = background(element);
        const color = over(rgba(getComputedStyle(element).color), behind);
        const [darker, lighter] = [luminance(color), luminance(behind)].sort((one, other) => one - other);
        const contrast = (lighter + 0.05) / (darker + 0.05);
        if (contrast < 4.5) faint.push(`${text.slice(0, 40)} (${element.className}): ${contrast.toFixed(2)}`);
    }
    return { looked, faint };
}"""

# How wide the page is, and the elements that stick out of the window.
WIDTH = """() => [document.scrollingElement.scrollWidth, [...document.querySelectorAll("body *")]
    .filter((element) => element.checkVisibility() && element.getBoundingClientRect().right > innerWidth + 1
        && !element.closest("svg, .unseen, pre"))
    .map((element) => element.outerHTML.slice(0, 80))]"""

# The outline of what has the focus: its style, and its name.
FOCUS = """() => {
    const element = document.activeElement;
    const style = getComputedStyle(element);
    return [element.tagName, element.id || element.name || element.textContent.trim(), style.outlineStyle, parseFloat(style.outlineWidth)];
}"""
